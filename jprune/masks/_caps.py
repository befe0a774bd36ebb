"""The least that every leaf, or every output of a leaf, keeps, whatever is asked overall.

What is protected is marked as the highest bits there are, above infinity, and then competes with
all others: the places that are left go to the best of the rest, so no other choice with as many
weights and these floors has a higher score.
"""

from __future__ import annotations

import fractions
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jprune import _checks, tree
from jprune.masks import _errors
from jprune.masks._patterns import NOfM, units_shape
from jprune.masks._selection import keys as _keys
from jprune.masks._selection import rows as _rows
from jprune.masks._selection import select as _select
from jprune.masks._selection import wide as _wide
from jprune.typing import Scores


class Caps(NamedTuple):
  """Bounds on what a leaf loses; in units of a pattern.

  Attributes:
    min_keep: the least number that is kept; all, of what has fewer.
    max_sparsity: the largest fraction that is pruned.
    inputs: for each leaf the axes over which an output's weights lie, and both hold for each
      output; ``None`` where they hold for the leaf as a whole.
  """

  min_keep: int
  max_sparsity: float
  inputs: tuple[tuple[int, ...] | None, ...]


def caps(
  function: str,
  scores: Scores,
  pattern: Any,
  sparsity: Any,
  min_keep: Any,
  max_sparsity: Any,
  per_output: bool,
) -> Caps | None:
  """The checked caps of a tree of scores; ``None`` where there are none.

  Raises:
    ValueError: if a number is out of range, all caps contradict the sparsity, or the pattern
      leaves nothing to bound.
    TypeError: if a number is none.
  """
  _errors.check_caps(function, min_keep, max_sparsity, sparsity, per_output)
  if not min_keep and max_sparsity == 1.0:
    return None
  if isinstance(pattern, NOfM):
    capped = ('min_keep', min_keep) if min_keep else ('max_sparsity', max_sparsity)
    raise _checks.pattern_capped(function, *capped, pattern)
  paths, leaves, _ = tree.flatten(scores, is_leaf=lambda leaf: leaf is None)
  inputs: list[tuple[int, ...] | None] = [None] * len(leaves)
  if per_output:
    for i, (path, leaf) in enumerate(zip(paths, leaves)):
      if leaf is not None and len(units_shape(pattern, leaf)) != len(leaf.shape):
        raise _errors.no_outputs(function, pattern, path)
      inputs[i] = None if leaf is None else input_axes(leaf.shape)
  return Caps(int(min_keep), float(max_sparsity), tuple(inputs))


def input_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
  """The axes over which the weights of one output lie, by the layout of Flax kernels.

  That is ``(*window, inputs, outputs)``: all axes but the last; of a vector the only one.
  """
  return tuple(range(max(len(shape) - 1, min(len(shape), 1))))


def least(caps: Caps, size: int) -> int:
  """How many of ``size`` units have to stay. The decimal is meant that the float prints as."""
  pruned = math.floor(fractions.Fraction(repr(float(caps.max_sparsity))) * size)
  return max(size - pruned, min(caps.min_keep, size))


def of_each(
  caps: Caps, xs: Sequence[jax.Array], ks: Sequence[Any]
) -> tuple[list[jax.Array], list[Any]]:
  """Units and places of leaves that compete for themselves: a cap adds to its leaf's places.

  Args:
    caps: of these leaves.
    xs: units: floats, or bits that are marked where they were pruned before.
    ks: places, ints or wide counts.

  Returns:
    Floats or marked bits; and places.
  """
  if not any(caps.inputs):
    return list(xs), [_most(k, least(caps, x.size)) for x, k in zip(xs, ks)]
  kept = _protected(caps, xs)
  floor_of = floors(caps, xs)
  places = [_at_least(k, [mask], floor) for k, mask, floor in zip(ks, kept, floor_of)]
  return [_keys.raised(x, mask) for x, mask in zip(xs, kept)], places


def together(
  function: str, caps: Caps, xs: Sequence[jax.Array], k: Any, sparsity: Any
) -> tuple[list[jax.Array], Any]:
  """As :func:`of_each`, of leaves that compete with each other.

  Raises:
    ValueError: if the caps keep more than there are places, unless the sparsity is ``None``.
  """
  kept = _protected(caps, xs)
  places = _at_least(k, kept, sum(floors(caps, xs)))
  if isinstance(places, int) and places > k and sparsity is not None:
    raise _checks.caps_contradict(function, sparsity, places, sum(x.size for x in xs))
  return [_keys.raised(x, mask) for x, mask in zip(xs, kept)], places


def _protected(caps: Caps, xs: Sequence[jax.Array]) -> list[jax.Array]:
  """The best units of each leaf, or of each output of it; none that was pruned before."""
  masks: dict[int, jax.Array] = {}
  whole = [i for i, axes in enumerate(caps.inputs) if not axes]
  found = _select.largest([xs[i] for i in whole], [least(caps, xs[i].size) for i in whole])
  masks.update(zip(whole, found))
  for i, (x, axes) in enumerate(zip(xs, caps.inputs, strict=True)):
    if axes:
      masks[i] = _rows.largest(x, least(caps, math.prod(x.shape[axis] for axis in axes)), axes)
  alive = lambda x: ~_keys.is_marked(x) if _keys.are_bits(x) else True
  return [masks[i] & alive(x) for i, x in enumerate(xs)]


def floors(caps: Caps, xs: Sequence[Any]) -> list[int]:
  """How many units of each leaf are protected, if none was pruned before."""
  rows = [
    math.prod(x.shape[axis] for axis in axes) if axes else x.size
    for x, axes in zip(xs, caps.inputs, strict=True)
  ]
  return [least(caps, row) * (x.size // max(row, 1)) for x, row in zip(xs, rows)]


def _at_least(k: Any, kept: Sequence[jax.Array], floor: int) -> Any:
  """Places for all that is kept, which is counted only where it could be more than ``k``."""
  if isinstance(k, int) and k >= floor:
    return k
  found = _wide.total(jnp.stack([_wide.count(mask) for mask in kept]), axis=0)
  if isinstance(k, int) and not tree.is_traced(found):
    return max(k, _wide.value(found))
  return _wide.most(jnp.asarray(_wide.constant(k)) if isinstance(k, int) else k, found)


def _most(k: Any, floor: int) -> Any:
  return max(k, floor) if isinstance(k, int) else _wide.most(k, jnp.asarray(_wide.constant(floor)))
