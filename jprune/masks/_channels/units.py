"""One score for each unit of a channel group, from the weights of all of its members.

A member is a slice family of one leaf: ``axis`` of it, and for each index along that axis the
unit that it belongs to. So a leaf is first reduced to a vector along the axis, which reads it
once, and everything after that works on vectors. Concrete scores are reduced where they lie and
then stay on the host; under a trace the same lines run with ``jax.numpy``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jprune import _checks, tree
from jprune.masks import _errors
from jprune.typing import Normalization, Reduction

ON_HOST = 2**18  # elements; below, a copy to the host is made before anything is compiled


def unit_scores(
  function: str,
  groups: Sequence[Any],
  leaves: Mapping[str, Any],
  reduce: Reduction | Callable[[jax.Array], jax.Array],
  normalize: Normalization | None,
  xp: Any,
) -> list[Any]:
  """A vector ``(group.size,)`` for each group, higher = keep.

  Args:
    function: who asks, for the message.
    groups: channel groups, each with a member among the leaves.
    leaves: floating scores by path; members that are not here don't count.
    reduce: a word, or a function of the members' means.
    normalize: a word, or nothing.
    xp: ``numpy`` for concrete leaves, ``jax.numpy`` for traced ones.
  """
  wide = any(leaf.dtype == jnp.float64 for leaf in leaves.values())
  dtype = jnp.float64 if wide else jnp.float32
  vectors: dict[tuple[str, int], Any] = {}  # a leaf may be a member of many groups by one axis

  def vector(path: str, axis: int) -> Any:
    if (path, axis) not in vectors:
      kind = 'sum' if callable(reduce) or reduce == 'mean' else reduce
      vectors[path, axis] = _reduced_where_it_lies(function, path, leaves[path], axis, kind, xp)
    return vectors[path, axis]

  out = []
  for group in groups:
    members = [member for member in group.members if member.path in leaves]
    parts = [vector(member.path, member.axis) for member in members]
    counts = [weights_of(member, leaves[member.path].shape, group.size) for member in members]
    units = [member.position.units for member in members]
    if callable(reduce):
      scores = _by_function(function, group, parts, units, counts, reduce, dtype, xp)
    else:
      scores = _combined(parts, units, counts, group.size, reduce, xp).astype(dtype)
    out.append(_normalized(scores, normalize, xp))
  return out


# ---------------------------------------------------------------------------- leaves to vectors


def _reduced_where_it_lies(
  function: str, path: str, leaf: Any, axis: int, kind: str, xp: Any
) -> Any:
  """A leaf as a vector along an axis; NumPy's, in float64, unless it is traced."""
  if xp is jnp:
    return _reduced(leaf, axis, kind)
  if isinstance(leaf, np.ndarray) or _is_near(leaf):
    vector = _reduced_on_host(np.asarray(leaf), axis, kind)
  else:
    vector = np.asarray(_reducing(leaf.sharding)(leaf, axis, kind)).astype(np.float64)
  if np.isnan(vector).any():
    _checks.check_no_nan(function, 'scores', path, leaf)  # inf - inf is let through: it ranks last
  return vector


def _is_near(leaf: jax.Array) -> bool:
  """Whether NumPy can read a leaf in place, or it is too small for that to matter."""
  if not leaf.is_fully_addressable:
    return False
  devices = leaf.devices()
  return leaf.size < ON_HOST or (len(devices) == 1 and next(iter(devices)).platform == 'cpu')


def _reduced(leaf: jax.Array, axis: int, kind: str) -> jax.Array:
  others = tuple(i for i in range(leaf.ndim) if i != axis)
  x = leaf if leaf.dtype == jnp.float64 else leaf.astype(jnp.float32)
  if kind == 'max':
    return jnp.max(x, axis=others, initial=-jnp.inf)
  return jnp.sum(jnp.square(x) if kind == 'l2' else x, axis=others)


def _reduced_on_host(leaf: np.ndarray, axis: int, kind: str) -> np.ndarray:
  others = tuple(i for i in range(leaf.ndim) if i != axis)
  x = leaf if leaf.dtype == np.float64 else leaf.astype(np.float32, copy=False)
  with np.errstate(over='ignore', invalid='ignore'):
    if kind == 'max':
      return np.asarray(np.max(x, axis=others, initial=-np.inf), np.float64)
    return np.asarray(np.sum(np.square(x) if kind == 'l2' else x, axis=others, dtype=np.float64))


@functools.lru_cache(maxsize=64)
def _reducing(sharding: Any) -> Callable[..., jax.Array]:
  """Reduces on the devices of a leaf; every process gets the whole vector."""
  out = sharding
  if isinstance(sharding, NamedSharding):
    out = NamedSharding(sharding.mesh, PartitionSpec())
  return jax.jit(_reduced, static_argnums=(1, 2), out_shardings=out)


# ----------------------------------------------------------------------------- vectors to units


def _combined(
  parts: Sequence[Any],
  units: Sequence[np.ndarray],
  counts: Sequence[np.ndarray],
  size: int,
  reduce: str,
  xp: Any,
) -> Any:
  """One number for each unit from all members; 0 for a unit without weights."""
  if xp is jnp and len({part.dtype for part in parts}) > 1:
    parts = [part.astype(jnp.float64) for part in parts]
  each = [_per_unit(part, own, size, reduce == 'max', xp) for part, own in zip(parts, units)]
  count = np.sum(counts, axis=0)
  if reduce == 'max':
    # NaN is handed on, as sums do
    return xp.where(count > 0, functools.reduce(xp.maximum, each), xp.zeros_like(each[0]))
  with np.errstate(over='ignore', invalid='ignore'):
    total = functools.reduce(xp.add, each)
    if reduce == 'mean':
      return total / xp.asarray(np.maximum(count, 1), total.dtype)
    return xp.sqrt(total) if reduce == 'l2' else total


def _by_function(
  function: str,
  group: Any,
  parts: Sequence[Any],
  units: Sequence[np.ndarray],
  counts: Sequence[np.ndarray],
  reduce: Callable[[jax.Array], jax.Array],
  dtype: Any,
  xp: Any,
) -> Any:
  """What the user's function makes of the members' means, ``(members, units)``."""
  rows = []
  for part, own, count in zip(parts, units, counts):
    mean = _per_unit(part, own, group.size, False, xp).astype(dtype)
    mean = mean / xp.asarray(np.maximum(count, 1), dtype)
    rows.append(xp.where(count > 0, mean, xp.asarray(np.nan, dtype)))
  found = reduce(jnp.asarray(xp.stack(rows)))
  if getattr(found, 'shape', None) != (group.size,) or not tree.is_floating(found):
    raise _errors.bad_reduced(function, group.name, group.size, found)
  if xp is np and np.isnan(np.asarray(found)).any():
    raise _errors.bad_reduced(function, group.name, group.size, 'NaN')
  return xp.asarray(found, dtype)


def _per_unit(vector: Any, units: np.ndarray, size: int, largest: bool, xp: Any) -> Any:
  """Sums, or takes the largest of, the entries of a vector that belong to each unit."""
  if len(units) == size and (units == np.arange(size)).all():
    return vector
  neutral = xp.full((1,), -np.inf if largest else 0, vector.dtype)
  rows = xp.concatenate([vector, neutral])[_indices(units, size)]
  return xp.max(rows, axis=1) if largest else xp.sum(rows, axis=1)


def _indices(units: np.ndarray, size: int) -> np.ndarray:
  """For each unit the indices that are its own, ``(size, most)``, filled up with ``len(units)``."""
  inside = np.flatnonzero(units >= 0)
  order = inside[np.argsort(units[inside], kind='stable')]
  counts = np.bincount(units[inside], minlength=size)
  out = np.full((size, max(1, counts.max(initial=0))), len(units))
  before = np.repeat(np.cumsum(counts) - counts, counts)
  out[units[order], np.arange(len(order)) - before] = order
  return out


def weights_of(member: Any, shape: tuple[int, ...], size: int) -> np.ndarray:
  """How many weights of a leaf each unit has."""
  units = member.position.units
  slice_size = int(np.prod([n for i, n in enumerate(shape) if i != member.axis], dtype=np.int64))
  return np.bincount(units[units >= 0], minlength=size) * slice_size


def _normalized(scores: Any, normalize: str | None, xp: Any) -> Any:
  """Scores of one group, comparable with those of others; their order stays as it is.

  Infinities stay infinite and have no part in what the others are divided by.
  """
  if normalize is None or not scores.size:
    return scores
  finite = xp.isfinite(scores)
  count = xp.maximum(xp.sum(finite), 1).astype(scores.dtype)
  zero = xp.zeros_like(scores)
  known = xp.where(finite, scores, zero)
  if normalize == 'gaussian':
    mean = xp.sum(known) / count
    known = xp.where(finite, scores - mean, zero)
    by = xp.sqrt(xp.sum(xp.square(known)) / count)
  else:
    by = xp.sum(xp.abs(known)) / count if normalize == 'mean' else xp.max(xp.abs(known))
  divided = known / xp.where(by > 0, by, xp.ones_like(by))
  return xp.where(finite, divided, scores)
