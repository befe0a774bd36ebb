"""Compiled programs are let go of in time; fixtures that all tests may use."""

import ctypes
import gc
import itertools
import pathlib

import jax
import pytest

# Linux lets a process map 65,530 pieces of memory. Each compiled program takes some, and JAX keeps
# thousands of them, which takes gigabytes; what they took, glibc keeps until it is told not to.
_MAPS, _MANY, _MOST = pathlib.Path('/proc/self/maps'), 5_000, 10_000
_finished = itertools.count(1)


_SMOKE = frozenset(pathlib.Path(__file__).with_name('smoke.txt').read_text().split())


def pytest_collection_modifyitems(items):
  """Marks what ``smoke.txt`` names: files, tests, and tests of one parameter."""
  for item in items:
    names = item.nodeid, item.nodeid.partition('[')[0], item.nodeid.partition('::')[0]
    if not _SMOKE.isdisjoint(names):
      item.add_marker(pytest.mark.smoke)


def pytest_runtest_teardown(item, nextitem):
  """Lets go of compiled programs when they are many: after a file, whose own they mostly are."""
  same = nextitem is not None and nextitem.path == item.path
  if not _MAPS.exists() or (same and next(_finished) % 25):
    return  # looking takes time
  if _MAPS.read_bytes().count(b'\n') > (_MOST if same else _MANY):
    jax.clear_caches()
    gc.collect()
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
      trim(0)


@pytest.fixture(scope='module')
def passes():
  """Chooses whether programs are compiled with all passes, as users have them, or with few."""
  chosen = [False]

  def choose(every):
    if every != chosen[0]:
      chosen[0] = every
      jax.config.update('jax_disable_most_optimizations', not every)
      jax.clear_caches()  # what is compiled is not compiled anew for another option

  yield choose
  choose(False)


@pytest.fixture(scope='module')
def all_passes(passes):
  """Programs as users have them, for what is compared to the last digits."""
  passes(True)


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
