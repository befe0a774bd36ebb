"""Inputs on which two functions differ first: zeros of both signs, extremes, nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _hosts, tree

_LARGE, _TINY = 2.0**10, 2.0**-60


def hard_inputs(args: Any) -> Iterator[tuple[str, Any]]:
  """Variations of arguments, with what they are.

  Args:
    args: tree of arrays.

  Yields:
    Names, and trees of the same structure, shapes and dtypes; but for ``'nothing along axis i'``,
    where all arrays that are as long along it as the longest of them have no entries.
  """
  for name, vary in _VARIATIONS.items():
    yield name, jax.tree.map(lambda leaf, vary=vary: _varied(leaf, vary), args)
  shapes = [np.shape(leaf) for leaf in jax.tree.leaves(args)]
  for axis in range(max(map(len, shapes), default=0)):
    longest = max(shape[axis] for shape in shapes if len(shape) > axis)
    if longest:
      cut = lambda leaf, axis=axis, longest=longest: _without(leaf, axis, longest)
      yield f'nothing along axis {axis}', jax.tree.map(cut, args)


def _without(leaf: Any, axis: int, size: int) -> Any:
  shape = np.shape(leaf)
  if shape[axis : axis + 1] != (size,):
    return leaf
  if _hosts.spans(leaf):
    return _like(leaf, np.zeros((*shape[:axis], 0, *shape[axis + 1 :]), leaf.dtype))
  return leaf[(slice(None),) * axis + (slice(0),)]


def _like(leaf: jax.Array, values: np.ndarray) -> jax.Array:
  """Values that all processes have, split over them as an array is."""
  take = lambda index: values[index]
  return jax.make_array_from_callback(values.shape, leaf.sharding, take)


def _varied(leaf: Any, vary: Callable[[np.ndarray], Any]) -> Any:
  if not tree.is_array(leaf) or jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
    return leaf
  x = _hosts.whole(leaf)
  varied = np.broadcast_to(vary(x), x.shape).astype(x.dtype)
  return _like(leaf, varied) if _hosts.spans(leaf) else jnp.asarray(varied)


def _real(floats: float, integers: Callable[[Any], int], bools: bool) -> Callable[[Any], Any]:
  """One number everywhere, another one for each kind of dtype."""

  def vary(x: np.ndarray) -> Any:
    if x.dtype == bool:
      return np.bool_(bools)
    if jnp.issubdtype(x.dtype, jnp.integer):
      return np.asarray(integers(jnp.iinfo(x.dtype)), x.dtype)
    return np.float32(floats)

  return vary


def _scaled(factor: float, integers: Callable[[Any], int]) -> Callable[[Any], Any]:
  """Floats times a factor; an integer out of the range of any axis."""

  def vary(x: np.ndarray) -> Any:
    if x.dtype == bool:
      return ~x
    if jnp.issubdtype(x.dtype, jnp.integer):
      return np.asarray(integers(jnp.iinfo(x.dtype)), x.dtype)
    return x * np.asarray(factor, x.dtype)

  return vary


def _mixed(x: np.ndarray) -> Any:
  """One entry in four a zero, one a negative zero, one out of range; the others as they are."""
  turn = np.arange(x.size).reshape(x.shape) % 4
  for i, vary in enumerate((_VARIATIONS['zeros'], _VARIATIONS['negative zeros'])):
    x = np.where(turn == i, vary(x), x).astype(x.dtype)
  return np.where(turn == 2, _VARIATIONS['large values'](x), x)


_VARIATIONS: dict[str, Callable[[np.ndarray], Any]] = {
  'zeros': _real(0.0, lambda info: 0, False),
  'negative zeros': _real(-0.0, lambda info: max(info.min, -1), True),
  'repeated rows': lambda x: x[:1] if x.ndim and x.size else x,
  'large values': _scaled(_LARGE, lambda info: info.max),
  'tiny values': _scaled(_TINY, lambda info: info.min),
}
_VARIATIONS['mixed values'] = _mixed
