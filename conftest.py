"""What all tests and doctests run under: names, eight virtual devices, strict promotion.

Most of the time of the tests is that of compiling: programs are compiled once, and cheaply.
"""

import doctest
import inspect
import os
import pathlib
import re
import shutil
import tempfile

from tests import xla

os.environ['XLA_FLAGS'] = ' '.join(  # before JAX starts
  (
    os.environ.get('XLA_FLAGS', ''),
    xla.flags({'xla_force_host_platform_device_count': 8} | xla.OLDER_EMITTERS),
  )
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
_EACH = 3 << 30  # bytes of memory that a process of tests may take
# Tables of which each row takes seconds: tests of one row, named last, run in one process.
_BY_ROW = re.compile(r'.*(test_modes\.py|test_scorers\.py|zoo).*\[(?:.*-)?(.+)\]')


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads it
def pytest_cmdline_main(config):
  """A plain ``pytest``, of everything, takes the cores there are; one of some paths stays alone."""
  options = config.option
  alone = options.usepdb or options.trace or options.collectonly or options.benchmark_only
  if hasattr(config, 'workerinput'):  # one of those processes
    return
  if config.args_source != config.ArgsSource.TESTPATHS or alone:
    return
  if getattr(options, 'numprocesses', 0) is None and options.dist == 'no':
    options.numprocesses = _processes()


def _processes():
  """As many as there are cores, and memory for; none besides this one if that is one."""
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  if 'SC_PHYS_PAGES' in getattr(os, 'sysconf_names', ()):
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    cores = min(cores, memory // _EACH)
  return cores if cores > 1 else 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
  """Tests of one file run in one process, in which they share what they make and compile.

  Of large tables it is those of one row: a network, a scorer, a call.
  """
  if config.getvalue('dist') != 'load':
    return None  # something else was asked for
  from xdist.scheduler import LoadScopeScheduling

  class Scheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid):
      row = _BY_ROW.fullmatch(nodeid)
      return ' '.join(row.groups()) if row else nodeid.partition('::')[0]

  return Scheduling(config, log)


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
def _width_of_no_terminal(monkeypatch):
  """What is printed is as wide as where there is no terminal, whatever the shell exports."""
  monkeypatch.delenv('COLUMNS', raising=False)


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
  doctest_namespace.update(jax=jax, jnp=jnp, optax=optax, jprune=jprune)
