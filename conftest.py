"""What all tests and doctests run under: names, eight virtual devices, strict promotion.

Most of the time of the tests is that of compiling: programs are compiled once, and cheaply.
"""

import doctest
import inspect
import os
import pathlib
import shutil
import tempfile

# Before JAX starts. XLA's older emitters of loops make the same programs in half of the time.
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '')
  + ' --xla_force_host_platform_device_count=8 --xla_cpu_use_fusion_emitters=false'
)

import jax
import jax.numpy as jnp
import optax
import pytest

import jprune

jax.config.update('jax_numpy_dtype_promotion', 'strict')
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_disable_most_optimizations', True)

# a decorated function counts as one of the module in which it is defined
_from_module = doctest.DocTestFinder._from_module
doctest.DocTestFinder._from_module = lambda self, module, value: _from_module(
  self, module, inspect.unwrap(value) if callable(value) else value
)

_MOST = 1 << 30  # bytes of compiled programs that are kept for the next run


def pytest_configure(config):
  """Keeps compiled programs on disk: for other tests, other processes, which inherit the variable,
  those that were let go of in memory and, where pytest may keep anything, for the next run."""
  if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return
  if hasattr(config, 'cache'):
    programs = config.cache.mkdir('programs')
    if sum(file.stat().st_size for file in programs.iterdir()) > _MOST:
      shutil.rmtree(programs)
  else:
    folder = tempfile.TemporaryDirectory(prefix='jprune-tests-')
    config.add_cleanup(folder.cleanup)
    programs = pathlib.Path(folder.name)
  for name, value in (
    ('jax_compilation_cache_dir', str(programs)),
    ('jax_persistent_cache_min_compile_time_secs', 0),
    ('jax_persistent_cache_min_entry_size_bytes', -1),
  ):
    os.environ[name.upper()] = str(value)
    jax.config.update(name, value)


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
  doctest_namespace.update(jax=jax, jnp=jnp, optax=optax, jprune=jprune)
