"""A tally as numbers for a logger: of one that is made, and within a compiled step."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, _nonzeros, tree
from jprune._entry import public
from jprune.masks import PackedMask
from jprune.masks._apply import aligned
from jprune.masks._in_state import holds_masks, masks_in
from jprune.masks._pack import unpack_leaf
from jprune.masks._selection import wide
from jprune.masks._storage import rates
from jprune.report import _errors
from jprune.report._leaf import dtype_of, has_values, is_arraylike, shape_of, size_of
from jprune.typing import Masks, Params

if TYPE_CHECKING:
  from jprune.report._tally import Tally

_TOTALS = ('sparsity', 'size', 'nonzero', 'bytes_dense', 'bytes_stored', 'compression')


class _Leaf(NamedTuple):
  """What a shape tells of a leaf, and whether there is something to count."""

  path: str
  shape: tuple[int, ...]
  size: int
  itemsize: int
  counted: bool


def metrics_of(tally: Tally) -> dict[str, float | int]:
  """What :meth:`jprune.report.Tally.metrics` returns."""
  out: dict[str, float | int] = {name: getattr(tally, name) for name in _TOTALS}
  if tally.macs is not None:
    out['macs_dense'] = tally.macs.dense
    if tally.macs.masked:
      out |= {'macs_sparse': tally.macs.sparse, 'macs_shrunk': tally.macs.shrunk}
      out |= {name: getattr(tally, name) for name in ('size_shrunk', 'bytes_shrunk')}
  return out | {f'sparsity/{row.path}': row.sparsity for row in tally.rows if row.counted}


@public
def metrics(params: Params, masks: Masks = None) -> dict[str, jax.Array]:
  """The numbers of a tally, for any logger; usable under ``jit``, ``vmap`` and ``lax.scan``.

  What ``tally(params, masks).metrics()`` has, as scalars that are on the device until somebody
  looks at them. Each is the float32 next to the exact count, at any size: whole numbers are exact
  up to 2**24, and above that to seven digits.

  Args:
    params: tree of arrays. With masks only shapes and dtypes are looked at; without, zeros are
      counted.
    masks: as for :func:`tally`: masks, packed ones, or the state of an optimizer that holds them.

  Returns:
    A dict of float32 scalars: ``'sparsity'`` (of all weights, where
    :func:`jprune.transforms.metrics` has that of all which have a mask), ``'size'``,
    ``'nonzero'``, ``'bytes_dense'``, ``'bytes_stored'``, ``'compression'``, and
    ``'sparsity/<path>'`` of each leaf that has a mask; without masks, of each leaf.

  Raises:
    ValueError: if there is no leaf, or the masks' structure or shapes differ.
    TypeError: if a mask is not bool, or a shape struct.

  Examples:
    >>> params = {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}
    >>> masks = {'kernel': jnp.eye(2, dtype=bool), 'bias': None}
    >>> seen = jax.jit(metrics)(params, masks)
    >>> {name: round(float(value), 2) for name, value in seen.items() if 'bytes' not in name}
    {'compression': 0.92, 'nonzero': 4.0, 'size': 6.0, 'sparsity': 0.33, 'sparsity/kernel': 0.5}
  """
  paths, leaves, _ = tree.flatten(params)
  if not leaves:
    raise _checks.empty_tree('metrics')
  if holds_masks(masks) and not holds_masks(params):
    masks = masks_in('metrics', masks, params, 'masks')
  if masks is None:
    sources = [leaf if has_values(leaf) else None for leaf in leaves]
    given = [_at_hand(leaf) for leaf in sources if leaf is not None]
  else:
    sources = aligned('metrics', params, masks)
    _errors.check_has_values('metrics', paths, sources)
    given = [leaf for leaf in sources if leaf is not None]
  known = [
    _Leaf(path, shape_of(leaf), size_of(leaf), dtype_of(leaf).itemsize, source is not None)
    for path, leaf, source in zip(paths, leaves, sources)
    if is_arraylike(leaf)
  ]
  return _read(given, tuple(known), masks is not None)


def _at_hand(leaf: Any) -> Any:
  """An array of JAX as it is; of others what isn't zero, before JAX casts what it lacks."""
  return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf).astype(bool)


@functools.partial(jax.jit, static_argnames=('leaves', 'masked'))
def _read(given: list[Any], leaves: Sequence[_Leaf], masked: bool) -> dict[str, jax.Array]:
  """The metrics of leaves, of those that are counted by their masks or values."""
  sources, each = iter(given), {}
  pruned, kept, stored = [], [], []
  for leaf in leaves:
    if leaf.counted:
      found = _kept(next(sources), masked)
      here, gone = wide.counts([found, ~found])
      stored.append(_stored(leaf, here, masked))
      each[f'sparsity/{leaf.path}'] = _share(gone, leaf.size)
      pruned.append(gone)
    else:
      here = _constant(leaf.size)
      stored.append(_constant(leaf.size * leaf.itemsize))
    kept.append(here)
  size, dense = sum(leaf.size for leaf in leaves), sum(leaf.size * leaf.itemsize for leaf in leaves)
  bytes_stored = wide.approximate(_total(stored))
  ratio = jnp.float32(dense) / jnp.maximum(bytes_stored, 1)
  totals = {
    'sparsity': _share(_total(pruned), size),
    'size': jnp.float32(size),
    'nonzero': wide.approximate(_total(kept)),
    'bytes_dense': jnp.float32(dense),
    'bytes_stored': bytes_stored,
    'compression': jnp.where(bytes_stored == 0, jnp.float32(np.inf if dense else 1), ratio),
  }
  return totals | each


def _kept(source: Any, masked: bool) -> jax.Array:
  """Which weights are kept, or aren't zero."""
  if masked:
    return unpack_leaf(source) if isinstance(source, PackedMask) else source
  return _nonzeros.VALUES.device(source)


def _stored(leaf: _Leaf, kept: jax.Array, masked: bool) -> jax.Array:
  """Bytes in the smallest format, as :func:`jprune.masks._storage.smallest_storage` has them."""
  least: Any = None
  for rate in rates(leaf.shape, leaf.itemsize, masked):
    here = wide.carried(kept * np.uint32(rate.each) + wide.constant(rate.fixed))
    least = here if least is None else wide.least(least, here)
  whole = wide.equal(kept, _constant(leaf.size))  # which needs no mask
  return jnp.where(whole, wide.constant(leaf.size * leaf.itemsize), least)


def _constant(count: int) -> jax.Array:
  return jnp.asarray(wide.constant(count))


def _share(count: jax.Array, size: int) -> jax.Array:
  return wide.approximate(count) / jnp.float32(max(size, 1))


def _total(counts: list[jax.Array]) -> jax.Array:
  return wide.total(jnp.stack([_constant(0), *counts]), axis=0)
