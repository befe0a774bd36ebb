"""ALPS: the mask and the weights are found together, by ADMM and conjugate gradients."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune import _checks
from jprune.masks import NOfM, Unstructured
from jprune.reconstruct import _choose, _hessian, _least_squares, _work
from jprune.reconstruct._leaves import Outcome, Solved, Uses
from jprune.reconstruct._report import Repair
from jprune.typing import Masks, Params, Sparsities, Where

_FIRST_PENALTY = 0.1
_EVERY = 3  # iterations from one look at the support to the next
_MORE = 10  # times the steps of conjugate gradients, where they still have an effect
_LITTLE = 0.002  # of the error
_ROWS = 2  # times as many as inputs: with fewer, exact weights would follow their noise


def alps(
  params: Params,
  stats: Any,
  sparsity: Sparsities = None,
  *,
  pattern: Unstructured | NOfM = Unstructured(),
  where: Where = None,
  per_output: bool = False,
  damping: float = 0.01,
  iterations: int = 300,
  steps: int = 10,
) -> tuple[Params, Masks, Repair]:
  r"""Prunes in one shot, optimising over masks and weights at once; slower and better.

  .. math:: \min_{W, D} \tfrac12 \lVert X (W - W_0) \rVert_F^2
     \quad \text{such that } W = D, \; D \text{ has at most } k \text{ entries}

  by the alternating direction method of multipliers, on inputs scaled to equal norm: with one
  eigendecomposition of the Gram matrix :math:`H` every iteration solves for
  :math:`W = (H + \rho I)^{-1}(H W_0 - V + \rho D)`, keeps the :math:`k` largest entries of
  :math:`W + V / \rho` as :math:`D`, and adds :math:`\rho (W - D)` to :math:`V`. The penalty
  :math:`\rho` starts at 0.1 and grows every third iteration by 1.3, 1.2 or 1.1, as the support
  changes by a tenth of :math:`k`, by 0.5 %, or less; when it no longer changes, conjugate gradients
  on it refine the weights, column by column.

  Whatever is much smaller than the largest inputs, or combinations of them, drowns in the damping.
  So the supports of the weights with the largest :math:`|W_{ij}| \lVert x_i \rVert` are tried too,
  of all and in each output, and the error of the outputs, which has no damping in it, decides. The
  weights aren't damped either, if there are at least two rows for each input; with fewer they are,
  as they would follow the noise. Where conjugate gradients get stuck, those of
  :func:`least_squares` are tried.

  Exactly ``round(sparsity * size)`` weights of each leaf go; of a leaf with several products each
  gives its share. Dead inputs are treated as in :func:`sparsegpt`, and so is everything else that
  both have.

  Args:
    params: tree of arrays.
    stats: a :class:`jprune.graph.Stats` of these params, captured with ``gram=True``.
    sparsity: as for :func:`sparsegpt`.
    pattern: as for :func:`sparsegpt`.
    where: which leaves; by default the floating ones of two or more dimensions.
    per_output: whether each output loses the same number of weights, or one more.
    damping: what is added to the diagonal of the Gram matrix, as a fraction of its mean, for the
      search, and for the weights if there are fewer than two rows for each input.
    iterations: of the first part, at most.
    steps: of conjugate gradients at a time; ten times as many at most, while they have an effect.

  Returns:
    ``(params, masks, report)``, as :func:`sparsegpt`.

  Raises:
    ValueError: as for :func:`sparsegpt`.
    TypeError: as for :func:`sparsegpt`.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> params = {'w': jnp.array([[1.0], [2.0]])}
    >>> x = jnp.array([[1.0, 1.0], [1.0, 1.0]])  # the inputs are equal
    >>> _, stats = jprune.graph.capture(fn, params, x, gram=True)
    >>> small, masks, report = alps(params, stats, 0.5, damping=1e-4)
    >>> small['w'].round(2)
    Array([[0.],
           [3.]], dtype=float32)

  References:
    Meng et al., ALPS: improved optimization for highly sparse one-shot pruning for large language
    models, NeurIPS 2024, arXiv:2406.07831 (Algorithms 1 and 2)
  """
  _checks.check_positive_int('alps', 'iterations', iterations)
  _checks.check_positive_int('alps', 'steps', steps)
  damping = _work.options('alps', damping, per_output, pattern)

  def work(path: str, leaf: Any, uses: Uses, value: float | None) -> Outcome:
    return alps_leaf(
      'alps', path, leaf, uses, value, pattern, per_output=per_output, damping=damping,
      iterations=iterations, steps=steps,
    )  # fmt: skip

  return _work.leaf_by_leaf('alps', params, stats, sparsity, pattern, where, work)


def alps_leaf(
  function: str,
  path: str,
  leaf: Any,
  uses: Uses,
  sparsity: float | None,
  pattern: Any,
  *,
  per_output: bool = False,
  damping: float = 0.01,
  iterations: int = 300,
  steps: int = 10,
) -> Outcome:
  """:func:`alps` of one leaf, whose uses ``_leaves.uses_of`` has checked."""
  n_of_m = (pattern.n, pattern.m) if isinstance(pattern, NOfM) else None

  def solver(
    matrices: jax.Array, gram: jax.Array, rows: jax.Array, counts: np.ndarray, orders: Any
  ) -> Solved:
    limits = (iterations, steps)
    pull = jnp.where(rows >= _ROWS * gram.shape[-1], 0.0, jnp.float32(damping))
    found = solve(
      matrices, gram, counts[:, 0], orders, damping, pull, limits,
      n_of_m=n_of_m, per_output=per_output,
    )  # fmt: skip
    return _nearest(found, gram, pull, damping)

  return _work.pruned_leaf(
    function, path, leaf, uses, sparsity, pattern, solver,
    parts=lambda inputs: [inputs], damping=damping, per_output=per_output,
  )  # fmt: skip


class _Found(NamedTuple):
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
) -> _Found:
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
  """
  order = orders[0][:, None] + orders[1][None, :]

  def best(w: jax.Array, count: jax.Array) -> jax.Array:
    if n_of_m:
      return _choose.best_of_groups(jnp.abs(w), *n_of_m)
    return ~_choose.lowest(jnp.abs(w), count, order, per_output)

  def even(scores: jax.Array, count: jax.Array) -> list[jax.Array]:
    if n_of_m or per_output:
      return []  # as it is anyway
    each, more = jnp.divmod(count, scores.shape[1])
    low = _choose.lowest(scores, each, order, True)
    upcoming = _choose.lowest(scores, each + 1, order, True) & ~low
    place = jnp.argsort(jnp.argsort(jnp.min(scores, axis=0, where=upcoming, initial=jnp.inf)))
    return [~(low | (upcoming & (place < more)[None, :]))]

  def one(w: jax.Array, gram: jax.Array, count: jax.Array, pull: jax.Array) -> _Found:
    bare, live, mean = _hessian.settled(gram)
    w = jnp.where((live | ~jnp.any(live))[:, None], w, 0.0)
    identity = mean * jnp.eye(w.shape[0], dtype=w.dtype)
    gram = bare + damping * identity
    norm = jnp.sqrt(jnp.diagonal(gram))
    scaled, target = gram / (norm[:, None] * norm[None, :]), w * norm[:, None]
    found = _admm(scaled, target, lambda w: best(w, count), limits[0])
    keep = best(found, count)  # its entries, and zeros if there are too few
    sized = w * jnp.sqrt(jnp.diagonal(bare))[:, None]
    masks = jnp.stack([keep, best(sized, count), *even(jnp.abs(sized), count)])
    starts = jnp.stack([found / norm[:, None], *[w] * (len(masks) - 1)])
    fitted = lambda pair: _fitted(bare + pull * identity, w, *pair, limits[1])
    weights, done = lax.map(fitted, (starts, masks))
    return _Found(w, weights, masks, done)

  return _hessian.one_by_one(one, matrices.astype(jnp.float32), gram, counts, pull)


def _nearest(found: _Found, gram: jax.Array, pull: jax.Array, damping: float) -> Solved:
  """For each matrix those weights whose outputs are nearest, exact ones where others aren't."""
  used = jnp.broadcast_to(jnp.float32(damping), pull.shape)
  options = [
    Solved(found.weights[:, i], found.masks[:, i], used) for i in range(found.masks.shape[1])
  ]
  if not bool(jnp.all(found.done)):
    shared, widths = zip(*(_least_squares.supports(np.asarray(each.masks)) for each in options))
    options += [
      _least_squares.solve(
        found.dense, gram, each.masks, pull, shared=all(shared), width=max(widths)
      )
      for each in options
    ]
  errors = jnp.stack([_squares(gram, each.matrices - found.dense) for each in options])
  best = jnp.argmin(jnp.where(jnp.isnan(errors), jnp.inf, errors), axis=0)
  return jax.tree.map(lambda *each: _of_each(jnp.stack(each), best), *options)


def _of_each(options: jax.Array, best: jax.Array) -> jax.Array:
  """The best one of ``(options, batch, ...)`` for each of the batch."""
  return jnp.take_along_axis(options, best.reshape(1, -1, *[1] * (options.ndim - 2)), axis=0)[0]


@jax.jit
def _squares(gram: jax.Array, apart: jax.Array) -> jax.Array:
  one = lambda gram, apart: jnp.sum(apart * _dot(gram, apart))
  return _hessian.one_by_one(one, gram, apart)


class _State(NamedTuple):
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

  def step(state: _State) -> _State:
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
    return _State(
      sparse,
      multipliers,
      jnp.where(look, penalty * faster, penalty),
      jnp.where(look, mask, support),
      iteration + 1,
      look & (changed == 0),
    )

  start = _State(
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

  Returns:
    The weights, and whether the last ``steps`` had next to no effect on the error.
  """
  norm = jnp.sqrt(jnp.diagonal(gram))[:, None]  # on inputs of one size it needs no other scale
  scaled, target = gram / (norm * norm.T), w * norm
  masked = lambda x: jnp.where(keep, x, 0.0)
  ratio = lambda a, b: jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), 0.0)
  squares = lambda x: jnp.sum(jnp.square(x), axis=0, keepdims=True)
  error = lambda now: jnp.sum((now - target) * _dot(scaled, now - target))

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
  more = lambda state: ~state[2] & (state[3] < _MORE)
  (now, *_), _, done, _ = lax.while_loop(more, further, first)
  return jnp.where(keep, now / norm, 0.0), done


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
