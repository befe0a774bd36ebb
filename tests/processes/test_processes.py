"""All that is public, where every array spans processes: the same results as in one process.

Each process runs all of the checks, which are the functions ``check_*`` of ``checks_*.py``, in one
launch; each is a test here. To add one is to add such a function. It takes a ``World``: puts arrays
onto its mesh, calls, and compares with the same call on arrays at hand.
"""

import contextlib
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests import xla

HERE = pathlib.Path(__file__).parent
TIMEOUT = 500  # seconds for all groups


def _checks():
  """Names of checks, and the kinds of mesh that they are for."""
  for file in sorted(HERE.glob('checks_*.py')):
    for name, check in vars(importlib.import_module(f'tests.processes.{file.stem}')).items():
      if name.startswith('check_'):
        yield f'{file.stem}.{name}', getattr(check, 'kinds', ('auto', 'explicit'))


FEW, MANY = '2x2', '4x1'  # processes, and devices of each
CHECKS = [(FEW, f'{kind}.{check}') for check, kinds in _checks() for kind in kinds]
CHECKS += [  # each on one kind of mesh: from one process to two is further than from two to four
  (MANY, f'{kinds[place % 2]}.{check}')
  for place, (check, kinds) in enumerate(_checks())
  if len(kinds) == 2 and not check.startswith('checks_calls')
]


@pytest.fixture(scope='module')
def outcomes(request, tmp_path_factory):
  """For each group what each process says: errors of the checks, or ``None``, and its output."""
  folder = tmp_path_factory.mktemp('processes')
  groups = {}
  for item in request.session.items:
    if item.path == request.path:
      groups.setdefault(item.callspec.params['group'], []).append(item.callspec.params['check'])
  started = subprocess.Popen(
    [sys.executable, '-m', 'tests.processes._run', str(folder)],
    cwd=HERE.parent.parent,
    env=os.environ | {'XLA_FLAGS': xla.flags(xla.OLDER_EMITTERS)},
    start_new_session=True,
    text=True,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )
  try:
    said, _ = started.communicate(json.dumps(groups), timeout=TIMEOUT)
  except subprocess.TimeoutExpired:
    said = f'not done after {TIMEOUT} seconds'
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(started.pid, signal.SIGKILL)  # all that it started
    started.wait()
  return {group: list(_read(folder, group, said)) for group in groups}


def _read(folder, group, said):
  for rank in range(int(group.partition('x')[0])):
    results, log = folder / f'{group}-{rank}.jsonl', folder / f'{group}-{rank}.log'
    rows = map(json.loads, results.read_text().splitlines()) if results.exists() else ()
    text = log.read_text()[-5000:] if log.exists() else ''
    yield {row['check']: row['error'] for row in rows}, f'{said}\n{text}'


@pytest.mark.parametrize(('group', 'check'), CHECKS)
def test_same_as_in_one_process(outcomes, group, check):
  for rank, (errors, said) in enumerate(outcomes[group]):
    assert check in errors, f'process {rank} has not come to the end of it:\n{said}'
    assert errors[check] is None, f'process {rank}: {errors[check]}'
