"""Which leaves of each network are pruned by default, as text: ``python -m tests.zoo.selection``.

``selected.txt`` holds what names alone select, ``roles.txt`` what the network says of each leaf.
Both were read and found right; a change of them is to be read again.
"""

import functools
import pathlib

from jprune import graph, tree
from tests.zoo import CASES

FILE = pathlib.Path(__file__).parent / 'selected.txt'
ROLES = FILE.with_name('roles.txt')


def selection(params, roles=None):
  """Lines: each leaf that is selected, each other of two or more axes with the reason."""
  paths, leaves, _ = tree.flatten(params)
  lines = []
  for path, leaf, why in zip(paths, leaves, tree.skipped(params, roles)):
    shape = ','.join(map(str, leaf.shape))
    if why is None:
      lines.append(f'  {path} [{shape}]')
    elif len(leaf.shape) > 1:
      lines.append(f'  - {path} [{shape}]: {why}')
  return lines


def roles_of(case):
  """Lines: each leaf with its role; of kernels and stacks, what each axis is."""
  lines = []
  for path, role in graph.roles(*case[:2], *case[2]).items():
    shape = ','.join(map(str, role.shape))
    axes = f': {", ".join(word or "-" for word in role.axes)}' if any(role.axes) else ''
    lines.append(f'  {path} [{shape}] {role.kind}{axes}')
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
  selected, roles = [], []
  for name, each in CASES.items():
    made = each.make()
    selected += [name, *selection(made[1])]
    roles += [name, *roles_of(made)]
  FILE.write_text('\n'.join(selected) + '\n')
  ROLES.write_text('\n'.join(roles) + '\n')
