"""What scorers from captured statistics share: from a leaf to its matrices, and back.

A scorer is one function of a batch of matrices and of the moments of their inputs. Here it is
called for each use of each leaf, and its scores are put where the weights were.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType

from jprune import _checks, tree
from jprune.typing import Params, Scores


def score_uses(
  function: str,
  params: Params,
  stats: Any,
  score: Callable[..., jax.Array],
  *options: float,
  gram: bool = False,
  beside: Callable[[str, Any], Any] | None = None,
) -> Scores:
  """Scores the leaves that statistics are at hand of; ``None`` for all others.

  Args:
    function: name of the scorer, for its messages.
    params: tree of arrays.
    stats: a :class:`jprune.graph.Stats`.
    score: ``(w, moments, *options) -> scores``, both of shape ``(batch, inputs, outputs)`` and
      float32; a function of a module, as it is compiled once for each shape.
    *options: numbers that ``score`` takes.
    gram: whether it needs the products of inputs.
    beside: what ``score`` gets in one tuple with the moments, an array for a path and a use.

  Raises:
    ValueError: if there is no leaf, none with statistics, or statistics don't fit a leaf, are of
      no row, or lack the products.
    TypeError: if ``stats`` isn't that, or a leaf is a shape struct.
  """
  paths, leaves, treedef = tree.flatten(params)
  if not leaves:
    raise _checks.empty_tree(function)
  _checks.check_stats(function, stats)
  captured = dict(stats.uses)
  if not any(path in captured and tree.is_floating(x) for path, x in zip(paths, leaves)):
    raise _checks.stats_of_others(function, paths, list(captured))
  out: list[jax.Array | None] = []
  for path, leaf in zip(paths, leaves, strict=True):
    if path not in captured or not tree.is_floating(leaf):
      out.append(None)
      continue
    _checks.check_values(function, path, leaf)
    found = stats[path]
    _check_fit(function, path, leaf, found, gram)
    # where a product stands in the code is no reason to compile anew
    uses = tuple(dataclasses.replace(use, source=0, loop=None, line='') for use, _ in found)
    moments = tuple(
      moments if beside is None else (moments, beside(path, use)) for use, moments in found
    )
    out.append(_score_leaf(jnp.asarray(leaf), moments, score, uses, options))
  return treedef.unflatten(out)


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


@functools.partial(jax.jit, static_argnames=('score', 'uses', 'options'))
def _score_leaf(
  leaf: jax.Array, moments: Any, score: Callable[..., jax.Array], uses: Any, options: Any
) -> jax.Array:
  x = leaf.astype(jnp.float32)
  if not leaf.size:
    return x

  def placed(x: jax.Array, moments: Any) -> jax.Array:
    out = jnp.zeros_like(x)
    for use, each in zip(uses, moments):
      out = use.placed(out, score(use.matrices(x), each, *options))
    # NaN is passed on for selection to refuse; that the leaf itself takes part in this last
    # operation also makes the partitioner give the scores its sharding
    return jnp.where(jnp.isnan(x), x, out)

  sharding = jax.typeof(x).sharding
  if AxisType.Explicit in sharding.mesh.axis_types:
    axes = sharding.mesh.explicit_axes
    return jax.sharding.auto_axes(placed, axes=axes, out_sharding=sharding)(x, moments)
  return placed(x, moments)
