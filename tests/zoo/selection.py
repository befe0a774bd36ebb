"""Which leaves of each network are pruned by default, as text: ``python -m tests.zoo.selection``.

``selected.txt`` holds what was read and found right; a change of it is to be read again.
"""

import functools
import pathlib

from jprune import tree
from tests.zoo import CASES

FILE = pathlib.Path(__file__).parent / 'selected.txt'


def selection(params, roles=None):
  """Lines: each leaf that is selected, each other of two or more axes with the reason."""
  paths, leaves, _ = tree.flatten(params)
  lines = []
  for path, leaf, why in zip(paths, leaves, tree.left_out(params, roles)):
    shape = ','.join(map(str, leaf.shape))
    if why is None:
      lines.append(f'  {path} [{shape}]')
    elif len(leaf.shape) > 1:
      lines.append(f'  - {path} [{shape}]: {why}')
  return lines


@functools.cache
def recorded(file=FILE):
  """The lines of each network in the file."""
  found, lines = {}, []
  for line in file.read_text().splitlines():
    if line.startswith('  '):
      lines.append(line)
    else:
      lines = found[line] = []
  return found


if __name__ == '__main__':
  text = []
  for name, case in CASES.items():
    text += [name, *selection(case.make()[1])]
  FILE.write_text('\n'.join(text) + '\n')
