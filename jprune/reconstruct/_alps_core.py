"""ALPS on matrices: ADMM for the mask, conjugate gradients for the weights on it."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jprune import _powers
from jprune.reconstruct import _choose, _hessian

_FIRST_PENALTY = 0.1
_EVERY = 3  # iterations from one look at the support to the next
MORE = 10  # times the steps of conjugate gradients, where they still have an effect
_LITTLE = 0.002  # of the error


class Found(NamedTuple):
  """What ADMM and conjugate gradients make of matrices.

  Attributes:
    dense: ``(batch, inputs, outputs)``, the weights before, zeros for dead inputs.
    weights: ``(batch, masks, inputs, outputs)``, fitted to each mask.
    masks: of the same shape: that of ADMM; by size times norm of the input; and so in each output.
    done: ``(batch, masks)``, whether the weights are as good as the best ones.
  """

  dense: jax.Array
  weights: jax.Array
  masks: jax.Array
  done: jax.Array


@functools.partial(jax.jit, static_argnames=['n_of_m', 'per_output'])
def solve(
  matrices: jax.Array,
  gram: jax.Array,
  counts: jax.Array,
  orders: tuple[jax.Array, jax.Array],
  damping: Any,
  pull: jax.Array,
  limits: tuple[Any, Any],
  *,
  n_of_m: tuple[int, int] | None = None,
  per_output: bool = False,
  alive: jax.Array | None = None,
) -> Found:
  """Two or three masks, and weights on them; compiled once for each shape.

  Args:
    matrices: ``(batch, inputs, outputs)``.
    gram: ``(batch, inputs, inputs)``; no rows at all (all zeros) stand for inputs of one size.
    counts: ``(batch,)``, int32: how many weights go; ``(batch, outputs)`` if ``per_output``.
    orders: int32, ``(inputs,)`` and ``(outputs,)``; their sum says which of two entries is first.
    damping: fraction of the mean of the diagonal.
    pull: ``(batch,)``, the same for the fit.
    limits: iterations of ADMM at most, and steps of conjugate gradients at a time.
    n_of_m: keep the ``n`` best of every ``m`` successive inputs.
    per_output: whether each output is a race of its own.
    alive: bools of the shape of ``matrices``, ``False`` for what has to go, which counts.
  """
  order = orders[0][:, None] + orders[1][None, :]

  def best(w: jax.Array, count: jax.Array, alive: jax.Array | None) -> jax.Array:
    if n_of_m:
      return _choose.best_of_groups(jnp.abs(w), *n_of_m, alive)
    scores = jnp.abs(w) if alive is None else jnp.where(alive, jnp.abs(w), -jnp.inf)
    return ~_choose.lowest(scores, count, order, per_output)

  def even(scores: jax.Array, count: jax.Array) -> list[jax.Array]:
    if n_of_m or per_output:
      return []  # as it is anyway
    if alive is not None:
      return []  # some outputs may have lost more than their share
    each, more = jnp.divmod(count, scores.shape[1])
    low = _choose.lowest(scores, each, order, True)
    upcoming = _choose.lowest(scores, each + 1, order, True) & ~low
    place = jnp.argsort(jnp.argsort(jnp.min(scores, axis=0, where=upcoming, initial=jnp.inf)))
    return [~(low | (upcoming & (place < more)[None, :]))]

  def one(w: Any, gram: Any, count: Any, pull: Any, alive: Any = None) -> Found:
    bare, live, mean = _hessian.settled(gram)
    w = jnp.where((live | ~jnp.any(live))[:, None], w, 0.0)
    identity = mean * jnp.eye(w.shape[0], dtype=w.dtype)
    gram = bare + damping * identity
    norm = jnp.sqrt(jnp.diagonal(gram))
    scaled, target = gram / (norm[:, None] * norm[None, :]), w * norm[:, None]
    found = _admm(scaled, target, lambda w: best(w, count, alive), limits[0])
    keep = best(found, count, alive)  # its entries, and zeros if there are too few
    sized = w * jnp.sqrt(jnp.diagonal(bare))[:, None]
    masks = jnp.stack([keep, best(sized, count, alive), *even(jnp.abs(sized), count)])
    starts = jnp.stack([found / norm[:, None], *[w] * (len(masks) - 1)])
    fitted = lambda pair: _fitted(bare + pull * identity, w, pair[0], pair[1], limits[1])
    weights, done = lax.map(fitted, (starts, masks))
    return Found(w, weights, masks, done)

  more = () if alive is None else (alive,)
  return _hessian.one_by_one(one, matrices.astype(jnp.float32), gram, counts, pull, *more)


@jax.jit
def squares(gram: jax.Array, apart: jax.Array) -> jax.Array:
  one = lambda gram, apart: jnp.sum(apart * _dot(gram, apart))
  return _hessian.one_by_one(one, gram, apart)


class _Iterate(NamedTuple):
  """Of ADMM: sparse weights, multipliers, penalty, support at the last look."""

  sparse: jax.Array
  multipliers: jax.Array
  penalty: jax.Array
  support: jax.Array
  iteration: jax.Array
  done: jax.Array


def _admm(gram: jax.Array, target: jax.Array, best: Any, iterations: Any) -> jax.Array:
  values, vectors = jnp.linalg.eigh(gram, symmetrize_input=False)
  values = jnp.maximum(values, 0.0)[:, None]
  wanted = _dot(gram, target)

  def step(state: _Iterate) -> _Iterate:
    sparse, multipliers, penalty, support, iteration, _ = state
    right = wanted - multipliers + penalty * sparse
    w = _dot(vectors, _dot(vectors.T, right) / (values + penalty))
    moved = w + multipliers / penalty
    mask = best(moved)
    sparse = jnp.where(mask, moved, 0.0)
    multipliers = multipliers + penalty * (w - sparse)
    changed = jnp.sum(mask != support).astype(jnp.float32)
    kept = jnp.sum(mask).astype(jnp.float32)
    faster = jnp.where(changed >= 0.1 * kept, 1.3, jnp.where(changed >= 0.005 * kept, 1.2, 1.1))
    look = (iteration + 1) % _EVERY == 0
    return _Iterate(
      sparse,
      multipliers,
      jnp.where(look, penalty * faster, penalty),
      jnp.where(look, mask, support),
      iteration + 1,
      look & (changed == 0),
    )

  start = _Iterate(
    target,
    jnp.zeros_like(target),
    jnp.float32(_FIRST_PENALTY),
    jnp.ones(target.shape, bool),
    jnp.int32(0),
    jnp.bool_(False),
  )
  more = lambda state: ~state.done & (state.iteration < iterations)
  return lax.while_loop(more, step, start).sparse


def _fitted(
  gram: jax.Array, w: jax.Array, start: jax.Array, keep: jax.Array, steps: Any
) -> tuple[jax.Array, jax.Array]:
  """Conjugate gradients from the start towards the best weights on the kept entries.

  Each output is over a power of two of its own, lest the squares of a small one vanish.

  Returns:
    The weights, and whether the last ``steps`` had next to no effect on the error.
  """
  power = _powers.exponent(w, axis=0)[None, :]
  w, start = _powers.times(w, -power), _powers.times(start, -power)
  norm = jnp.sqrt(jnp.diagonal(gram))[:, None]  # on inputs of one size it needs no other scale
  scaled, target = gram / (norm * norm.T), w * norm
  masked = lambda x: jnp.where(keep, x, 0.0)
  ratio = lambda a, b: jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), 0.0)
  squares = lambda x: jnp.sum(jnp.square(x), axis=0, keepdims=True)
  error = lambda now: jnp.sum(_powers.times((now - target) * _dot(scaled, now - target), 2 * power))

  def step(_: Any, state: Any) -> Any:
    now, rest, way, size = state
    ahead = masked(_dot(scaled, way))
    length = ratio(size, jnp.sum(way * ahead, axis=0, keepdims=True))
    now, rest = now + length * way, rest - length * ahead
    new = squares(rest)
    return now, rest, rest + ratio(new, size) * way, new

  def further(state: Any) -> Any:
    state, before, _, times = state
    state = lax.fori_loop(0, steps, step, state)
    after = error(state[0])
    return state, after, before - after <= _LITTLE * after, times + 1

  now = masked(start * norm)
  rest = masked(_dot(scaled, target - now))
  first = ((now, rest, rest, squares(rest)), error(now), jnp.bool_(False), jnp.int32(0))
  more = lambda state: ~state[2] & (state[3] < MORE)
  (now, *_), _, done, _ = lax.while_loop(more, further, first)
  return jnp.where(keep, _powers.times(now / norm, power), 0.0), done


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
