"""Strict promotion, no rank promotion, eight virtual CPU devices.

Most of the time of the tests is that of compiling: programs are compiled once, and with few passes.
"""

import ctypes
import gc
import itertools
import os
import pathlib
import tempfile

os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
)

# Compiled programs are kept on disk for as long as the tests run: for other tests, for other
# processes, which inherit the variable, and for when those in memory have been let go.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  _programs = tempfile.TemporaryDirectory(prefix='jprune-tests-')
  os.environ['JAX_COMPILATION_CACHE_DIR'] = _programs.name
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
  os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '-1'

import jax
import pytest

jax.config.update('jax_numpy_dtype_promotion', 'strict')
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_disable_most_optimizations', True)

# Linux lets a process map 65,530 pieces of memory. Each compiled program takes some, and JAX keeps
# thousands of them, which takes gigabytes; what they took, glibc keeps until it is told not to.
_MAPS, _MANY, _EACH = pathlib.Path('/proc/self/maps'), 12_000, 25
_finished = itertools.count(1)


def pytest_runtest_teardown():
  """Lets go of compiled programs once they have become too many for one process."""
  if next(_finished) % _EACH or not _MAPS.exists():
    return
  if _MAPS.read_bytes().count(b'\n') > _MANY:
    jax.clear_caches()
    gc.collect()
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
      trim(0)


@pytest.fixture(scope='module')
def all_passes():
  """Programs as users have them, for what is compared to the last digits."""
  jax.config.update('jax_disable_most_optimizations', False)
  jax.clear_caches()  # what is compiled is not compiled anew for another option
  yield
  jax.config.update('jax_disable_most_optimizations', True)
  jax.clear_caches()


@pytest.fixture
def compilations():
  """An entry for each program that XLA compiles; a cache of JAX would forget some when full."""
  seen = []

  def listener(event, duration, **_):
    if event == '/jax/core/compile/backend_compile_duration':
      seen.append(event)

  jax.monitoring.register_event_duration_secs_listener(listener)
  yield seen
  jax.monitoring.unregister_event_duration_listener(listener)
