"""A tree, with or without masks, to its tally."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jprune import _checks, _roles, tree
from jprune._entry import public
from jprune.graph import roles as graph_roles
from jprune.graph._macs.count import macs_and_graph
from jprune.masks._apply import aligned
from jprune.masks._in_state import holds_masks, masks_in
from jprune.report import _errors
from jprune.report._count import nonzeros
from jprune.report._leaf import has_values, row_of, size_of
from jprune.report._reasons import with_reasons
from jprune.report._tally import Tally
from jprune.typing import Masks, Params

if TYPE_CHECKING:
  from jprune._roles import Role


@public
def tally(
  params: Params,
  masks: Masks = None,
  *,
  fn: Callable[..., Any] | None = None,
  args: tuple[Any, ...] | list[Any] = (),
  roles: Mapping[str, Role] | None = None,
) -> Tally:
  """Counts what pruning saved: weights, bytes and multiply-adds, per leaf and in all.

  Counts are exact at any size. Bytes as stored are those of the smallest of three formats per
  leaf: dense, bitmask + values, index + values. A look at values that already are there, so
  call it outside ``jit``.

  Args:
    params: tree of arrays. With masks only shapes and dtypes are looked at, so shape structs
      will do; without masks, zeros are counted, and a shape struct counts as dense.
    masks: tree of the same structure with the values at hand; leaves bool or packed, of the
      param's shape, or ``None``. Or the state of an optimizer that holds them, as for
      :func:`jprune.transforms.masks_of`.
    fn: ``fn(params, *args)``, whose multiply-adds are counted too, as by
      :func:`jprune.graph.macs`: dense, without pruned weights, and (with masks) without the
      channels of which nothing is left. Masks that prune a channel in some leaves only are fine;
      it stays, and a line says so.
    args: further arguments of ``fn``: a tuple of trees of arrays or shape structs.
    roles: what a function does with each leaf, :func:`jprune.graph.roles`: one more column, and
      the reasons why leaves were skipped.

  Returns:
    A :class:`Tally`: ``print`` it, ``.plot()`` it, or read its rows and totals.

  Raises:
    ValueError: if there is no leaf, the masks' structure or shapes differ, a state has two masks
      of one leaf, or the roles are of other leaves.
    TypeError: if a mask is not bool or a shape struct, or if an array is traced; if ``fn`` is no
      function or can't be traced with these arguments; if ``args`` is no tuple, or there is no
      ``fn`` to take them.

  Examples:
    >>> params = {'kernel': jnp.ones((64, 64)), 'bias': jnp.ones(64)}
    >>> masks = {'kernel': jnp.arange(4096).reshape(64, 64) < 400, 'bias': None}
    >>> print(tally(params, masks))
    leaf             shape        size  nonzero  sparsity    dense   stored  as       ratio
    ---------------------------------------------------------------------------------------
    bias             f32[64]        64       64     0.00%    256 B    256 B  dense    1.00x
    kernel           f32[64,64]  4,096      400    90.23%  16.4 kB  2.64 kB  bitmask  6.21x
    ---------------------------------------------------------------------------------------
    total, 2 leaves              4,160      464    88.85%  16.6 kB  2.90 kB           5.75x
    <BLANKLINE>
    Nonzero: 464 of 4,160 weights.
    Bytes: 16,640 dense, 2,896 as stored; about ... kB as a file.
    Skipped: 1 of 2 leaves, 64 weights.
      fewer than two dimensions (1): bias

    >>> dense = lambda params, x: x @ params['kernel'] + params['bias']
    >>> tally(params, masks, fn=dense, args=(jnp.ones(64),)).macs
    MacCount(4,096 multiply-adds, 400 sparse, 4,096 shrunk)
  """
  paths, leaves, _ = tree.flatten(params)
  if not leaves:
    raise _checks.empty_tree('tally')
  if not isinstance(args, (tuple, list)) or (args and fn is None):
    raise _checks.bad_args('tally', args)
  if roles is not None:
    _roles.check('tally', tree.shapes(params), roles)
  _refuse_traced('params', paths, leaves)
  if holds_masks(masks) and not holds_masks(params):
    masks = masks_in('tally', masks, params, 'masks')
  if masks is None:
    found: list[Any] = [None] * len(leaves)
    counted = [leaf if has_values(leaf) else None for leaf in leaves]
  else:
    found = counted = aligned('tally', params, masks)
    _refuse_traced('masks', paths, [_errors.bits(mask) for mask in found])
    _errors.check_has_values('tally', paths, found)
  counts = iter(nonzeros([leaf for leaf in counted if leaf is not None]))
  kinds = [None] * len(paths) if roles is None else [roles[path].kind for path in paths]
  rows = [
    row_of(path, leaf, size_of(leaf) if here is None else next(counts), mask, masks is not None, k)
    for path, leaf, here, mask, k in zip(paths, leaves, counted, found, kinds)
  ]
  macs = graph = None
  if fn is not None:
    macs, graph = macs_and_graph('tally', fn, params, args, masks)
    more = zip(rows, macs.leaves.values(), macs.shapes.values())
    rows = [dataclasses.replace(row, macs=each, shape_shrunk=shape) for row, each, shape in more]
  if masks is not None:
    masked = [mask is not None for mask in found]
    of_fn = None if fn is None else lambda: graph_roles(fn, params, *args)
    rows = with_reasons(rows, params, masked, graph, roles, of_fn)
  return Tally(tuple(rows), macs)


def _refuse_traced(argument: str, paths: list[str], leaves: list[Any]) -> None:
  for path, leaf in zip(paths, leaves):
    if tree.is_traced(leaf):
      raise _checks.traced('tally', argument, path, leaf)
