"""Groups of real processes on this machine, each of which runs all checks, one after the other.

``python -m tests.processes._run FOLDER < groups.json`` imports what takes long once, then forks:
JAX starts in the children. A group is ``COUNTxDEVICES``, with a list of checks,
``kind.file.function``. Each process writes a line into ``FOLDER/GROUP-RANK.jsonl`` when it is done
with a check.
"""

import faulthandler
import importlib
import json
import os
import pathlib
import socket
import sys
import time
import traceback
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax  # noqa: F401
import pytest  # noqa: F401
from jax.sharding import PartitionSpec as P

import jprune.equinox
import jprune.nnx  # noqa: F401
from tests.processes._world import World

EACH = 150  # seconds that a check may take, those of waiting for other processes included


def main():
  folder, groups = pathlib.Path(sys.argv[1]), json.load(sys.stdin)
  failed = 0
  for group, checks in groups.items():
    count, devices = map(int, group.split('x'))
    with socket.socket() as probe:
      probe.bind(('127.0.0.1', 0))
      port = probe.getsockname()[1]
    children = []
    for rank in range(count):
      child = os.fork()
      if not child:
        _child(folder / group, rank, count, devices, port, checks)
      children.append(child)
    failed += sum(bool(os.waitpid(child, 0)[1]) for child in children)
  return failed


def _child(group, rank, count, devices, port, checks):
  said = open(f'{group}-{rank}.log', 'w', buffering=1)  # noqa: SIM115  as long as it lives
  for stream in (1, 2):
    os.dup2(said.fileno(), stream)
  code = 1
  try:
    for name, value in (
      ('jax_platforms', 'cpu'),
      ('jax_num_cpu_devices', devices),
      ('jax_numpy_dtype_promotion', 'strict'),
      ('jax_numpy_rank_promotion', 'raise'),
      ('jax_disable_most_optimizations', True),
      ('jax_share_binary_between_hosts', True),
    ):
      jax.config.update(name, value)
    _share_programs()
    jax.distributed.initialize(f'127.0.0.1:{port}', count, rank, initialization_timeout=60)
    assert jax.process_count() == count
    _meet()
    for number, check in enumerate(checks):
      faulthandler.dump_traceback_later(EACH, exit=True, file=said)
      _run(group, rank, check)
      _wait_for_others(group, count, number + 1)
    faulthandler.cancel_dump_traceback_later()
    jax.distributed.shutdown()
    code = 0
  except BaseException:
    traceback.print_exc()
  finally:
    os._exit(code)


def _share_programs():
  """Lets the first process compile for all: JAX would, if it knew one machine when it sees it."""
  keys = importlib.import_module('jax._src.cache_key')
  if hasattr(keys, '_hash_accelerator_config'):
    keys._hash_accelerator_config = lambda hashed, devices: hashed.update(b'%d' % devices.size)
  else:  # as slow as many processes are
    jax.config.update('jax_share_binary_between_hosts', False)


def _meet():
  """Lets processes that talk to each other find each other, for which they wait 30 s at most.

  Later the one may be done with compiling long before the others.
  """
  world = World('auto')
  x = world.put(np.zeros((4, 4), np.float32), P('data', 'model'))
  for axes in (0, 1, None):
    jax.block_until_ready(jax.jit(jnp.sum, static_argnums=1)(x, axes))


def _run(group, rank, check):
  kind, file, function = check.split('.')
  start, cpu, error = time.monotonic(), time.process_time(), None
  own = pathlib.Path(f'{group}-{check}')
  own.mkdir(exist_ok=True)
  try:
    module = importlib.import_module(f'tests.processes.{file}')
    with warnings.catch_warnings():
      warnings.simplefilter('error')
      warnings.filterwarnings('ignore', 'The default axis_types will change')  # jax 0.8
      warnings.filterwarnings('ignore', 'Error (reading|writing) persistent compilation cache')
      getattr(module, function)(World(kind, own))
  except BaseException:
    error = traceback.format_exc()
  seconds = time.monotonic() - start, time.process_time() - cpu
  with open(f'{group}-{rank}.jsonl', 'a') as results:
    results.write(json.dumps({'check': check, 'error': error, 'seconds': seconds}) + '\n')


def _wait_for_others(group, count, done):
  """Until all are done with so many checks: one that failed has to fail by itself."""
  files = [pathlib.Path(f'{group}-{rank}.jsonl') for rank in range(count)]
  while not all(file.exists() and file.read_bytes().count(b'\n') >= done for file in files):
    time.sleep(0.002)


if __name__ == '__main__':
  raise SystemExit(main())
