"""How many weights and bytes a pruned model takes, leaf by leaf."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jprune import _checks, _roles, tree
from jprune._entry import public
from jprune.graph import MacCount
from jprune.graph._macs.count import count_macs
from jprune.masks import PackedMask
from jprune.masks._apply import aligned
from jprune.masks._in_state import holds_masks, masks_in
from jprune.masks._storage import Storage, header_bytes
from jprune.report import _errors, _plot, _table
from jprune.report._count import nonzeros
from jprune.report._leaf import (
  LeafTally,
  bytes_shrunk,
  fraction_of_zeros,
  has_values,
  ratio_of_bytes,
  ratios,
  row_of,
  size_of,
  why_skipped,
)
from jprune.typing import Masks, Params

if TYPE_CHECKING:
  from matplotlib.axes import Axes

  from jprune._roles import Role


@dataclasses.dataclass(frozen=True, repr=False)
class Tally:
  """The tally of a tree: its leaves, and totals over them (Python ints, exact at any size).

  ``str()`` is an aligned table of at most 100 columns; notebooks show it as HTML.

  Attributes:
    rows: one :class:`LeafTally` for each leaf, in tree order.
    macs: multiply-adds of the function, a :class:`jprune.graph.MacCount`; ``None`` without one.

  Examples:
    >>> params = {'w': jnp.ones((2, 2)), 'b': jnp.ones(2)}
    >>> tally = jprune.tally(params, {'w': jnp.eye(2, dtype=bool), 'b': None})
    >>> tally.size, tally.nonzero, [row.path for row in tally.rows]
    (6, 4, ['b', 'w'])
  """

  rows: tuple[LeafTally, ...]
  macs: MacCount | None = None

  @property
  def size(self) -> int:
    """Number of weights in all."""
    return sum(row.size for row in self.rows)

  @property
  def nonzero(self) -> int:
    """Number of kept (without masks: nonzero) weights in all."""
    return sum(row.nonzero for row in self.rows)

  @property
  def bytes_dense(self) -> int:
    """Bytes of all values."""
    return sum(row.bytes_dense for row in self.rows)

  @property
  def bytes_stored(self) -> int:
    """Bytes with every leaf in its smallest stored format, without the file's header."""
    return sum(row.bytes_stored for row in self.rows)

  @property
  def bytes_file(self) -> int:
    """About the size of the file: ``bytes_stored`` and an estimate of the header."""
    arrays = [(row, row.shape) for row in self.rows if row.shape is not None]
    storages = [Storage(row.format, row.bytes_stored) for row, _ in arrays]
    shapes = [shape for _, shape in arrays]
    return self.bytes_stored + header_bytes([row.path for row, _ in arrays], shapes, storages)

  @property
  def size_shrunk(self) -> int | None:
    """Number of weights without the channels that are wholly pruned; ``None`` without ``fn``."""
    if self.macs is None:
      return None
    return sum(math.prod(row.shape_shrunk or ()) for row in self.rows)

  @property
  def bytes_shrunk(self) -> int | None:
    """Bytes of their values; ``None`` without ``fn``."""
    return None if self.macs is None else sum(bytes_shrunk(row) for row in self.rows)

  @property
  def sparsity(self) -> float:
    """Fraction of zeros over all weights, in [0, 1]."""
    return fraction_of_zeros(self.size, self.nonzero)

  @property
  def compression(self) -> float:
    """Dense bytes over stored bytes: 1.0 if there are none, ``inf`` if nothing is stored."""
    return ratio_of_bytes(self.bytes_dense, self.bytes_stored)

  @property
  def skipped(self) -> tuple[tuple[str, str], ...]:
    """Pairs of the path of a leaf of which nothing was pruned and the reason, in tree order."""
    return tuple((row.path, row.skipped) for row in self.rows if row.skipped is not None)

  @property
  def emptied(self) -> tuple[LeafTally, ...]:
    """The leaves that have weights, all of them pruned (without masks: zero), in tree order."""
    return tuple(row for row in self.rows if row.size and not row.nonzero)

  def to_dict(self) -> dict[str, Any]:
    """Everything as plain, JSON-serialisable Python values (an infinite ratio is ``None``).

    Returns:
      ``{'leaves': [...], 'total': {...}, 'skipped': {path: reason}}`` and ``'emptied'``, a list of
      paths; of a function also ``'macs'``, as :meth:`jprune.graph.MacCount.to_dict` has
      them.
    """
    fields = ['size', 'nonzero', 'bytes_dense', 'bytes_stored', 'bytes_file']
    fields += [] if self.macs is None else ['size_shrunk', 'bytes_shrunk']
    macs = {} if self.macs is None else {'macs': self.macs.to_dict()}
    return {
      'leaves': [row.to_dict() for row in self.rows],
      'total': {**{name: getattr(self, name) for name in fields}, **ratios(self)},
      'skipped': dict(self.skipped),
      'emptied': [row.path for row in self.emptied],
      **macs,
    }

  def plot(self, ax: Axes | None = None) -> Axes:
    """Draws a bar for each leaf: which share of its weights is kept, pruned, or skipped.

    Args:
      ax: matplotlib axes to draw into; by default a new figure, as high as the leaves need.

    Returns:
      The axes; ``axes.figure.savefig(...)`` writes them. Nothing is shown.

    Raises:
      ImportError: if matplotlib isn't installed.
    """
    return _plot.draw(self, ax)

  def __str__(self) -> str:
    return _table.text(self)

  def __repr__(self) -> str:
    return f'Tally({_table.plural(len(self.rows), "leaf")}: {_table.summary(self)})'

  def _repr_html_(self) -> str:
    return _table.html(self)


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
    masks = masks_in('tally', masks, params)
  if masks is None:
    found: list[Any] = [None] * len(leaves)
    counted = [leaf if has_values(leaf) else None for leaf in leaves]
  else:
    found = counted = aligned('tally', params, masks)
    _refuse_traced('masks', paths, [_bits(mask) for mask in found])
    _refuse_shape_structs(paths, found)
  counts = iter(nonzeros([leaf for leaf in counted if leaf is not None]))
  rows, skipped = [], tree.skipped(params, roles)
  for path, leaf, mask, source, left in zip(paths, leaves, found, counted, skipped):
    nonzero = size_of(leaf) if source is None else next(counts)
    why = why_skipped(leaf, nonzero, mask, masks is not None, left)
    rows.append(row_of(path, leaf, nonzero, why, None if roles is None else roles[path].kind))
  return Tally(tuple(rows)) if fn is None else _with_macs(rows, fn, params, args, masks)


def _with_macs(
  rows: Sequence[LeafTally], fn: Callable[..., Any], params: Params, args: Sequence[Any], masks: Any
) -> Tally:
  macs = count_macs('tally', fn, params, args, masks)
  more = zip(rows, macs.leaves.values(), macs.shapes.values())
  whole = [dataclasses.replace(row, macs=each, shape_shrunk=shape) for row, each, shape in more]
  return Tally(tuple(whole), macs)


def _refuse_traced(argument: str, paths: list[str], leaves: list[Any]) -> None:
  for path, leaf in zip(paths, leaves):
    if tree.is_traced(leaf):
      raise _checks.traced('tally', argument, path, leaf)


def _refuse_shape_structs(paths: list[str], masks: list[Any]) -> None:
  for path, mask in zip(paths, masks):
    if mask is not None and not hasattr(_bits(mask), '__array__'):
      raise _errors.no_values('tally', 'masks', path, mask)


def _bits(mask: Any) -> Any:
  return mask.bits if isinstance(mask, PackedMask) else mask
