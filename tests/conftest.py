"""Compiled programs are let go of in time; fixtures that all tests may use."""

import ctypes
import gc
import itertools
import pathlib

import jax
import pytest

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
