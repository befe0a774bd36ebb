"""What this library returns, in place of the params or masks that it holds or was made of.

Types are told by their names and the room that they are from, which lies above this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jprune._checks.words import kind, message


class _Result(NamedTuple):
  """What is to be said of a type.

  Attributes:
    room: that it is from.
    of: what gives it.
    params: what to pass as params.
    masks: what to pass as masks.
  """

  room: str
  of: str
  params: str = 'Pass the params that it was made of.'
  masks: str = 'Masks are what jprune.prune returns.'


_REPAIRED = 'It comes last: params, masks, report = jprune.reconstruct.prune(...).'
_TOGETHER = {
  2: ('jprune.load', 'params, masks = ...'),
  3: ('jprune.reconstruct.prune', 'params, masks, report = ...'),
}
_OF_GRAPH = 'Make masks by it: jprune.masks.channels(scores, graph, sparsity).'
_RESULTS = {
  'Shrunk': _Result('_shrink', 'what jprune.shrink returns', 'Pass small.params.'),
  'Plan': _Result('_shrink', 'the plan of what jprune.shrink returns', 'Pass small.params.'),
  'Tally': _Result(
    'report', 'what jprune.tally returns', masks='Pass the masks that it was made of.'
  ),
  'Recorder': _Result('report', 'a recorder of training'),
  'Repair': _Result('reconstruct', 'the report of a repair', _REPAIRED, _REPAIRED),
  'ChannelGraph': _Result('graph', 'what jprune.graph.channels returns', masks=_OF_GRAPH),
  'Roles': _Result('_roles', 'what jprune.graph.roles returns'),
  'MacCount': _Result('graph', 'what jprune.graph.macs returns'),
  'Stats': _Result('graph', 'what jprune.graph.capture returns'),
  'Result': _Result(
    'sensitivity', 'what jprune.sensitivity.run returns', 'Pass result.params.',
    'Pass result.masks.',
  ),
  'Allocation': _Result(
    'sensitivity', 'what jprune.sensitivity.allocate returns',
    masks='It is a distribution: jprune.prune(params, distribution=allocation).',
  ),
}  # fmt: skip


def not_a_tree(function: str, argument: str, given: Any) -> TypeError | None:
  """Why something is no tree at all, with what to pass instead; ``None`` if it may be one.

  Args:
    function: who asks.
    argument: ``'params'``, ``'masks'``, or another that asks for a tree.
    given: anything.
  """
  constraint = 'a tree of masks' if argument == 'masks' else 'a tree of arrays'
  name, module = type(given).__name__, type(given).__module__
  found = _RESULTS.get(name)
  if found is not None and f'{module}.'.startswith(f'jprune.{found.room}.'):
    fix = {'params': found.params, 'masks': found.masks}.get(argument, '')
    if (function, argument, name) == ('save', 'params', 'Shrunk'):
      fix = 'Call jprune.save_shrunk(path, small), or pass small.params.'
    got = f'{found.of}, {_a(name)}'
    return TypeError(message(function, argument, constraint, got, fix))
  if _params_and_masks(given) and (function != 'save' or len(given) > 2):
    of, names = _TOGETHER[len(given)]
    got, fix = f'params and masks together, as {of} returns them', f'Unpack them: {names}'
    return TypeError(message(function, argument, constraint, got, fix))
  number = isinstance(given, (bool, int, float, complex))  # as good as an array of no axes
  if number or hasattr(given, 'shape') or not jax.tree_util.all_leaves([given]):
    return None
  return TypeError(message(function, argument, constraint, _named(given)))


def _params_and_masks(given: Any) -> bool:
  """Whether this is a pair, or a triple with a report, that nobody has unpacked."""
  if type(given) is not tuple or len(given) not in _TOGETHER or hasattr(given[0], 'shape'):
    return False
  params, masks, *report = given
  if any(type(each).__name__ != 'Repair' for each in report):
    return False
  leaves, treedef = jax.tree.flatten(params)
  try:
    pairs = list(zip(leaves, treedef.flatten_up_to(masks)))
  except (ValueError, TypeError, KeyError):
    return False
  masked = [(leaf, mask) for leaf, mask in pairs if mask is not None]
  shape = lambda leaf: getattr(leaf, 'shape', None)
  return bool(masked) and all(
    shape(leaf) == shape(mask) != () and str(getattr(mask, 'dtype', '')) == 'bool'
    for leaf, mask in masked
  )


def holds_masks(node: Any) -> bool:
  """Whether a tree is, or has in it, the state of something that prunes."""
  return any(has_masks(each) for each in jax.tree.leaves(node, is_leaf=has_masks))


def has_masks(node: Any) -> bool:
  """Whether this is the state of something that prunes."""
  return isinstance(node, tuple) and 'masks' in getattr(node, '_fields', ())


def _named(given: Any) -> str:
  if callable(given) and hasattr(given, '__name__') and not isinstance(given, type):
    return f'the function {given.__name__}'
  return f'the class {given.__name__}' if isinstance(given, type) else _a(kind(given))


def _a(name: str) -> str:
  return f'{"an" if name[0] in "AEIOUaeiou" else "a"} {name}'


def check_not_swapped(function: str, leaves: Sequence[Any], masks: Any, reference: str) -> None:
  """Refuses masks in the place of params, whose leaves these are, where params are the masks."""
  if not _all_bool(leaves):
    return
  dtypes = (getattr(leaf, 'dtype', jnp.bool_) for leaf in jax.tree.leaves(masks))
  if any(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes):
    got = 'bool leaves, and floating ones as `masks`'
    raise TypeError(message(function, reference, reference, got, 'Swap the two.'))


def check_no_masks(function: str, leaves: Sequence[Any], argument: str = 'params') -> None:
  """Refuses masks in the place of params or scores, whose leaves these are."""
  if _all_bool(leaves):
    fix = f'These look like masks: pass the {argument} that they were made from.'
    raise TypeError(message(function, argument, argument, 'bool leaves alone', fix))


def _all_bool(leaves: Sequence[Any]) -> bool:
  is_bool = lambda leaf: getattr(leaf, 'dtype', None) == jnp.bool_
  return bool(leaves) and all(map(is_bool, leaves))
