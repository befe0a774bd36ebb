"""What scorers from captured statistics share: from a leaf to its matrices, and back.

A scorer is one function of a batch of matrices and of the moments of their inputs. Here it is
called for each use of each leaf, and its scores are put where the weights were.

Weights and inputs come to it over powers of two that make the largest about 1, so that no square
leaves float32; its scores are multiplied by what that makes of them. Where these then left float32,
all scores of the tree are over one more power of two, which changes no comparison.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jprune import _checks, _powers, tree
from jprune._entry import explicit
from jprune.scores import _errors
from jprune.scores._common import single_size
from jprune.typing import Params, Scores

if TYPE_CHECKING:
  from jprune.graph import Stats

_NEAR = 90  # powers of two that scores are left at: those of leaves' largest weights and inputs
_APART = 200  # more than which scores of two leaves can't be


@explicit
def score_uses(
  function: str,
  params: Params,
  stats: Stats,
  score: Callable[..., jax.Array],
  *options: float,
  degrees: tuple[float, float],
  gram: bool = False,
  beside: Callable[[str, Any], Any] | None = None,
  of_sizes: bool = True,
) -> Scores:
  """Scores the leaves that statistics are at hand of; ``None`` for all others.

  Args:
    function: name of the scorer, for its messages.
    params: tree of arrays.
    stats: a :class:`jprune.graph.Stats`.
    score: ``(w, moments, power, *options) -> scores``, of shape ``(batch, inputs, outputs)`` and
      float32, as ``w`` is; :func:`raised` to ``power``, ``(batch, 1, 1)``. A function of a module,
      as it is compiled once for each shape.
    *options: numbers that ``score`` takes.
    degrees: with which powers of the sizes of weights and of inputs scores grow.
    gram: whether it needs the products of inputs.
    of_sizes: whether it asks only how large weights are, so that complex ones will do.
    beside: what ``score`` gets in one tuple with the moments, an array for a path and a use.

  Raises:
    ValueError: if there is no leaf, none with statistics, or statistics don't fit a leaf, are of
      no row, or lack the products; if sizes of leaves are too far apart for float32.
    TypeError: if ``stats`` isn't that, a leaf is a shape struct, or a complex one won't do.
  """
  paths, leaves, treedef = tree.flatten(params)
  if not leaves:
    raise _checks.empty_tree(function)
  _checks.check_stats(function, stats)
  captured = dict(stats.uses)
  if not any(path in captured and tree.is_inexact(x) for path, x in zip(paths, leaves)):
    raise _errors.stats_of_others(function, paths, list(captured), dict(stats.skipped))
  todo: dict[str, tuple[Any, Any, Any, Any]] = {}
  for path, leaf in zip(paths, leaves, strict=True):
    if path not in captured or not tree.is_inexact(leaf):
      continue
    _checks.check_values(function, path, leaf)
    if tree.is_complex(leaf):
      if not of_sizes:
        raise _checks.complex_leaf(function, 'params', path, leaf)
      leaf = single_size(jnp.asarray(leaf))
    found = stats[path]
    _check_fit(function, path, leaf, found, gram)
    # where a product stands in the code is no reason to compile anew
    uses = tuple(dataclasses.replace(use, source=0, loop=None, line='') for use, _ in found)
    moments = tuple(moments for _, moments in found)
    extra = tuple(beside(path, use) for use, _ in found) if beside else (None,) * len(found)
    todo[path] = jnp.asarray(leaf), moments, extra, uses
  more = _shift(function, todo, degrees)
  scored = {
    path: _score_leaf(leaf, moments, extra, more, score, uses, degrees, options)
    for path, (leaf, moments, extra, uses) in todo.items()
  }
  return treedef.unflatten([scored.get(path) for path in paths])


def raised(scores: jax.Array, power: jax.Array) -> jax.Array:
  """``scores * 2 ** power``, exact where the power is an integer."""
  whole = jnp.floor(power)
  return _powers.times(scores * jnp.exp2(power - whole), whole.astype(jnp.int32))


def unit_scaled(w: jax.Array, axes: int | tuple[int, ...]) -> jax.Array:
  """``w`` over the power of two next to its largest entry along ``axes``, so no sum overflows."""
  largest = jnp.finfo(jnp.float32).max
  w = jnp.clip(w, -largest, largest)
  _, exponent = jnp.frexp(jnp.max(jnp.abs(w), axis=axes, keepdims=True))
  return jnp.ldexp(w, -exponent)


def per_input(values: jax.Array, w: jax.Array) -> jax.Array:
  """Values of inputs, ``(batch, inputs)``, for each of the weights that multiply them."""
  return jnp.broadcast_to(values[:, :, None], w.shape)


def one_by_one(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
  """Maps over the first axis without holding more than one intermediate matrix at a time."""
  if arrays[0].shape[0] == 1:
    return function(*(x[0] for x in arrays))[None]
  return lax.map(lambda xs: function(*xs), arrays)


def _check_fit(function: str, path: str, leaf: Any, found: Any, gram: bool) -> None:
  # together the uses cover the leaf that they were captured of
  shape = tuple(map(max, zip(*([last for _, last in use.box] for use, _ in found))))
  if shape != tuple(leaf.shape):
    raise _checks.stats_of_other_shape(function, path, leaf, shape)
  for use, moments in found:
    _checks.check_values(function, path, moments.mean, 'stats')
    _checks.check_shape(function, 'stats', path, moments.mean, use.sizes[:2])
    if gram and moments.products is None:
      raise _checks.no_gram(function, path)
  if tree.size(leaf) and not any(_may_have_rows(moments.count) for _, moments in found):
    raise _checks.no_rows(function, path)


def _may_have_rows(count: jax.Array) -> bool:
  """Whether any product has been seen; yes where that can't be looked at."""
  if tree.is_traced(count) or not getattr(count, 'is_fully_addressable', True):
    return True
  return bool(np.any(np.asarray(count)))


def _shift(function: str, todo: dict[str, Any], degrees: tuple[float, float]) -> Any:
  """The power of two that brings all scores into the middle of float32; 0 if they are near."""
  if degrees == (0, 0):
    return np.float32(0)
  found = [_bounds(leaf, moments, uses, degrees) for leaf, moments, _, uses in todo.values()]
  if tree.is_traced(*jax.tree.leaves(found)):
    low, high = (jnp.stack(each) for each in zip(*found))
    low, high = jnp.min(low), jnp.max(high)
    far = (low < -_NEAR) | (high > _NEAR)
    return jnp.where(far & (high >= low), -jnp.round((low + high) / 2), 0.0)
  lows, highs = zip(*jax.device_get(found))
  low, high = min(lows), max(highs)
  if high - low > _APART:
    paths = list(todo)
    raise _errors.scores_too_far_apart(function, paths[np.argmin(lows)], paths[np.argmax(highs)])
  far = low < -_NEAR or high > _NEAR
  return np.float32(-np.round((low + high) / 2) if far and high >= low else 0)


@functools.partial(jax.jit, static_argnames=('uses', 'degrees'))
def _bounds(leaf: jax.Array, moments: Any, uses: Any, degrees: Any) -> tuple[jax.Array, jax.Array]:
  """Least and greatest power of two of the scores of a product, of those that aren't all 0."""

  def of(leaf: jax.Array, moments: Any) -> tuple[jax.Array, jax.Array]:
    low, high = jnp.float32(jnp.inf), jnp.float32(-jnp.inf)
    for use, each in zip(uses, moments):
      w, power = _unit(use.matrices(leaf))
      total = _total(power, each.levelled()[1], degrees)
      there = jnp.any(w != 0, axis=(1, 2)) & jnp.any((each.mean != 0) | (each.squares != 0), axis=1)
      low = jnp.minimum(low, jnp.min(total, where=there, initial=jnp.inf))
      high = jnp.maximum(high, jnp.max(total, where=there, initial=-jnp.inf))
    return low, high

  return _automatic(of, leaf, PartitionSpec())(leaf, moments)


@functools.partial(jax.jit, static_argnames=('score', 'uses', 'degrees', 'options'))
def _score_leaf(
  leaf: jax.Array,
  moments: Any,
  extra: Any,
  more: Any,
  score: Callable[..., jax.Array],
  uses: Any,
  degrees: Any,
  options: Any,
) -> jax.Array:
  if not leaf.size:
    return leaf.astype(jnp.float32)

  def placed(leaf: jax.Array, moments: Any, extra: Any, more: Any) -> jax.Array:
    leaf = _powers.wide(leaf)
    out = jnp.zeros(leaf.shape, jnp.float32)
    for use, each, beside in zip(uses, moments, extra):
      w, power = _unit(use.matrices(leaf))
      each, level = each.levelled()
      power = (_total(power, level, degrees) + more)[:, None, None]
      given = each if beside is None else (each, beside)
      out = use.placed(out, score(w, given, power, *options))
    # NaN is passed on for selection to refuse; that the leaf itself takes part in this last
    # operation also makes the partitioner give the scores its sharding
    return jnp.where(jnp.isnan(leaf), leaf.astype(jnp.float32), out)

  spec = jax.typeof(leaf).sharding.spec
  return _automatic(placed, leaf, spec)(leaf, moments, extra, more)


def _automatic(function: Callable[..., Any], leaf: jax.Array, spec: Any) -> Callable[..., Any]:
  """A function that leaves it to the partitioner where things lie, up to its results."""
  mesh = jax.typeof(leaf).sharding.mesh
  if AxisType.Explicit not in mesh.axis_types:
    return function
  out = NamedSharding(mesh, spec)
  return jax.sharding.auto_axes(function, axes=mesh.explicit_axes, out_sharding=out)


def _unit(matrices: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Matrices, each over a power of two, and which ones, ``(batch,)``."""
  matrices = _powers.wide(matrices)
  power = _powers.exponent(matrices, axis=(1, 2))
  return _powers.times(matrices, -power[:, None, None]).astype(jnp.float32), power


def _total(weights: jax.Array, inputs: jax.Array, degrees: tuple[float, float]) -> jax.Array:
  of_weights, of_inputs = map(jnp.float32, degrees)
  return of_weights * weights.astype(jnp.float32) + of_inputs * inputs.astype(jnp.float32)
