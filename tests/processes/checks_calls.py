"""Every public call, from the table of all of them, with params and batches that are spread."""

import functools

from tests.contract import test_modes as table


@functools.cache
def _spread(world):
  return table.data(world.put)


def _check(names, world):
  found = table.CALLS[names](_spread(world.anywhere))
  world.same(found, lambda: table.expected(names), rtol=1e-4, atol=1e-6)


# No arrays are split in these; files have checks of their own.
_OTHERS = 'schedules.', 'tree.', 'transforms.Settings', 'io.'
# One frame brings all methods of sparse training onto meshes with explicit axes.
_SOME = ('gradual', 'srigl', 'group_lasso', 'growing', 'keep_pruned', 'mask_updates')

for _names in table.CALLS:
  if not _names.startswith(_OTHERS):
    _name, _own = _names.split()[0].replace('.', '_'), functools.partial(_check, _names)
    if _name == 'transforms_srigl':
      _own.kinds = ('explicit',)
    elif _name.startswith('transforms_') and not _name.endswith(_SOME):
      _own.kinds = ('auto',)
    vars()[f'check_{_name}'] = _own
