"""SparseGPT on matrices: weights are pruned input by input, later ones make up for each.

Everything looks back: a row is brought up to date with all errors made so far just before it is
needed, so that a weight is written once. Errors are gathered on three levels, each a matrix
product: segments, unrolled; blocks, whose mask is chosen at their start; strips of a block.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jprune.reconstruct import _choose, _hessian
from jprune.reconstruct._solving import Solved

_STRIP = 16
_SEGMENTS = 4


class _Sizes(NamedTuple):
  """Static sizes: inputs in a block and in a strip; kept of every so many, or ``None``."""

  block: int
  strip: int
  n_of_m: tuple[int, int] | None
  per_output: bool


def sizes_of(inputs: int, block: int, n_of_m: tuple[int, int] | None) -> tuple[int, int, int]:
  """Inputs in a block and in a strip, and the number of blocks."""
  if n_of_m:
    m = n_of_m[1]
    block = max(block // m, 1) * m
    block = min(block, -(-inputs // m) * m)
    return block, m, -(-inputs // block)
  block = min(block, inputs)
  strip = max(d for d in range(1, min(block, _STRIP) + 1) if block % d == 0)
  return block, strip, -(-inputs // block)


@functools.partial(jax.jit, static_argnames=['block', 'n_of_m', 'per_output'])
def solve(
  matrices: jax.Array,
  gram: jax.Array,
  counts: jax.Array,
  orders: tuple[jax.Array, jax.Array],
  damping: Any,
  *,
  block: int = 128,
  n_of_m: tuple[int, int] | None = None,
  per_output: bool = False,
  alive: jax.Array | None = None,
) -> Solved:
  """Prunes and repairs; compiled once for each shape.

  Args:
    matrices: ``(batch, inputs, outputs)``.
    gram: ``(batch, inputs, inputs)``; no rows at all (all zeros) stand for inputs of one size.
    counts: ``(batch, blocks)``, int32: how many weights go in each block; ``per_output`` of each
      of its columns, ``(batch, blocks, outputs)``; not looked at with ``n_of_m``.
    orders: int32, ``(inputs,)`` and ``(outputs,)``; their sum says which of two entries is first.
    damping: fraction of the mean of the diagonal.
    block: inputs in a block.
    n_of_m: keep the ``n`` best of every ``m`` successive inputs.
    per_output: whether each output is a race of its own.
    alive: bools of the shape of ``matrices``, ``False`` for what has to go, which counts; all
      ``True`` by default.
  """
  size, strip, _ = sizes_of(matrices.shape[1], block, n_of_m)
  sizes = _Sizes(size, strip, n_of_m, per_output)
  alive = jnp.ones(matrices.shape, bool) if alive is None else alive
  one = lambda w, gram, counts, alive: _one(w, gram, counts, alive, orders, damping, sizes)
  return _hessian.one_by_one(one, matrices.astype(jnp.float32), gram, counts, alive)


def _one(
  w: jax.Array,
  gram: jax.Array,
  counts: jax.Array,
  alive: jax.Array,
  orders: Any,
  damping: Any,
  sizes: _Sizes,
) -> Solved:
  inputs, outputs = w.shape
  gram, live, mean = _hessian.settled(gram)
  root, used = _hessian.root_of_inverse(gram, mean, damping)
  w = jnp.where((live | ~jnp.any(live))[:, None], w, 0.0)
  blocks = -(-inputs // sizes.block)
  more = blocks * sizes.block - inputs
  w = jnp.pad(w, ((0, more), (0, 0)))
  root = jnp.pad(root, (0, more)) + jnp.diag((jnp.arange(inputs + more) >= inputs).astype(w.dtype))
  rows = jnp.pad(orders[0], (0, more)).reshape(blocks, sizes.block)
  there = (jnp.arange(inputs + more) < inputs).reshape(blocks, sizes.block)
  alive = jnp.pad(alive, ((0, more), (0, 0)), constant_values=True)
  alive = alive.reshape(blocks, sizes.block, outputs)
  errors = jnp.zeros((0, outputs), jnp.float32)
  weights, masks = [], []
  cuts = [blocks * i // min(_SEGMENTS, blocks) for i in range(min(_SEGMENTS, blocks) + 1)]
  for begin, end in itertools.pairwise(cuts):
    span = slice(begin * sizes.block, end * sizes.block)
    current = w[span] - _dot(root[: span.start, span], errors)
    given = tuple(each[begin:end] for each in (counts, rows, there, alive))
    new, mask, wrong = _segment(current, root[span, span], given, orders[1], sizes)
    weights.append(new)
    masks.append(mask)
    errors = jnp.concatenate([errors, wrong])
  return Solved(jnp.concatenate(weights)[:inputs], jnp.concatenate(masks)[:inputs], used)


def _segment(
  w: jax.Array, root: jax.Array, given: Any, columns: jax.Array, sizes: _Sizes
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Blocks one after the other: new weights, mask, and errors, all ``(inputs, outputs)``."""
  size, outputs = sizes.block, w.shape[1]
  blocks = w.shape[0] // size

  def step(errors: jax.Array, item: Any) -> Any:
    block, (index, count, rows, there, alive) = item
    begin = index * size
    back = lax.dynamic_slice(root, (0, begin), (root.shape[0], size))
    current = block - _dot(back, errors) if blocks > 1 else block
    own = lax.dynamic_slice(back, (begin, 0), (size, size))
    scale = jnp.diagonal(own)
    keep = alive
    if not sizes.n_of_m:
      scores = jnp.where(there[:, None], jnp.abs(current) / scale[:, None], jnp.inf)
      order = rows[:, None] + columns[None, :]
      scores = jnp.where(alive, scores, -jnp.inf)
      keep = ~_choose.lowest(scores, count, order, sizes.per_output)
    current, keep = _block(current, own, keep, sizes)
    wrong = jnp.where(keep, 0.0, current / scale[:, None])
    errors = lax.dynamic_update_slice(errors, wrong, (begin, 0))
    return errors, (jnp.where(keep, current, 0.0), keep)

  items = (w.reshape(blocks, size, outputs), (jnp.arange(blocks), *given))
  errors, (weights, masks) = lax.scan(step, jnp.zeros_like(w), items)
  return weights.reshape(w.shape), masks.reshape(w.shape), errors


def _block(
  w: jax.Array, root: jax.Array, keep: jax.Array, sizes: _Sizes
) -> tuple[jax.Array, jax.Array]:
  """Each row as it is when its turn comes, and the mask, both ``(block, outputs)``.

  ``keep`` is the mask, or what may stay of each group.
  """
  size, outputs = w.shape
  height = sizes.strip
  scale = jnp.diagonal(root)
  upper = jnp.triu(root, 1)

  def strip(index: jax.Array, state: Any) -> Any:
    rows, masks, errors = state
    begin = index * height
    cut = lambda x: lax.dynamic_slice(x, (begin, 0), (height, outputs))
    back = lax.dynamic_slice(root, (0, begin), (size, height))
    current = cut(rows) - _dot(back, errors)
    here = lax.dynamic_slice(scale, (begin,), (height,))[:, None]
    if sizes.n_of_m:
      mask = _choose.best_of_groups(jnp.abs(current) / here, *sizes.n_of_m, cut(masks))
    else:
      mask = cut(masks)
    own = lax.dynamic_slice(upper, (begin, begin), (height, height))

    def row(i: jax.Array, current: jax.Array) -> jax.Array:
      wrong = jnp.where(mask[i], 0.0, current[i] / here[i])
      return current - own[i][:, None] * wrong[None, :]

    current = lax.fori_loop(0, height, row, current)
    put = lambda x, part: lax.dynamic_update_slice(x, part, (begin, 0))
    wrong = jnp.where(mask, 0.0, current / here)
    return put(rows, current), put(masks, mask), put(errors, wrong)

  start = (w, keep, jnp.zeros_like(w))
  rows, masks, _ = lax.fori_loop(0, math.ceil(size / height), strip, start)
  return rows, masks


def _dot(back: jax.Array, errors: jax.Array) -> jax.Array:
  """``back^T errors``."""
  return lax.dot_general(back, errors, (((0,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)
