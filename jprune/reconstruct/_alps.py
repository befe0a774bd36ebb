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
_MORE = 10  # times the steps where conjugate gradients don't start near the minimum


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

  Inputs much smaller than others drown in the damping, and the support that is found is then worse
  than that of the weights with the largest :math:`|W_{ij}| \lVert x_i \rVert`. So both are tried,
  the error of the outputs decides, and weights on the second are those of :func:`least_squares`.

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
    damping: what is added to the diagonal of the Gram matrix, as a fraction of its mean.
    iterations: of the first part, at most.
    steps: of conjugate gradients.

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

  def solver(matrices: jax.Array, gram: jax.Array, counts: np.ndarray, orders: Any) -> Solved:
    limits = (iterations, steps)
    solved, simple = solve(
      matrices, gram, counts[:, 0], orders, damping, limits, n_of_m=n_of_m, per_output=per_output
    )
    return _refitted(matrices, gram, solved, damping) if bool(jnp.any(simple)) else solved

  return _work.pruned_leaf(
    function, path, leaf, uses, sparsity, pattern, solver,
    parts=lambda inputs: [inputs], damping=damping, per_output=per_output,
  )  # fmt: skip


@functools.partial(jax.jit, static_argnames=['n_of_m', 'per_output'])
def solve(
  matrices: jax.Array,
  gram: jax.Array,
  counts: jax.Array,
  orders: tuple[jax.Array, jax.Array],
  damping: Any,
  limits: tuple[Any, Any],
  *,
  n_of_m: tuple[int, int] | None = None,
  per_output: bool = False,
) -> tuple[Solved, jax.Array]:
  """Prunes and repairs; compiled once for each shape.

  Args:
    matrices: ``(batch, inputs, outputs)``.
    gram: ``(batch, inputs, inputs)``; no rows at all (all zeros) stand for inputs of one size.
    counts: ``(batch,)``, int32: how many weights go; ``(batch, outputs)`` if ``per_output``.
    orders: int32, ``(inputs,)`` and ``(outputs,)``; their sum says which of two entries is first.
    damping: fraction of the mean of the diagonal.
    limits: iterations of ADMM at most, and steps of conjugate gradients.
    n_of_m: keep the ``n`` best of every ``m`` successive inputs.
    per_output: whether each output is a race of its own.

  Returns:
    What was found, and for each matrix whether size times norm of the input gave the mask.
  """
  order = orders[0][:, None] + orders[1][None, :]

  def best(w: jax.Array, count: jax.Array) -> jax.Array:
    if n_of_m:
      return _choose.best_of_groups(jnp.abs(w), *n_of_m)
    return ~_choose.lowest(jnp.abs(w), count, order, per_output)

  def one(w: jax.Array, gram: jax.Array, count: jax.Array) -> tuple[Solved, jax.Array]:
    bare, live, mean = _hessian.settled(gram)
    w = jnp.where((live | ~jnp.any(live))[:, None], w, 0.0)
    gram = bare + damping * mean * jnp.eye(w.shape[0], dtype=w.dtype)
    norm = jnp.sqrt(jnp.diagonal(gram))
    scaled, target = gram / (norm[:, None] * norm[None, :]), w * norm[:, None]

    def refined(start: jax.Array, keep: jax.Array, steps: Any) -> tuple[jax.Array, jax.Array]:
      found = _conjugate_gradients(scaled, target, start, keep, steps)
      new = jnp.where(keep, found / norm[:, None], 0.0)
      return new, _squares(bare, new - w)

    found = _admm(scaled, target, lambda w: best(w, count), limits[0])
    keep = best(found, count)  # its entries, and zeros if there are too few
    new, error = refined(found, keep, limits[1])
    plain = best(w * jnp.sqrt(jnp.diagonal(bare))[:, None], count)
    other, of_other = refined(jnp.where(plain, target, 0.0), plain, _MORE * limits[1])
    simple = of_other < error
    pick = lambda a, b: jnp.where(simple, a, b)
    return Solved(pick(other, new), pick(plain, keep), jnp.float32(damping)), simple

  return _hessian.one_by_one(one, matrices.astype(jnp.float32), gram, counts)


def _refitted(matrices: jax.Array, gram: jax.Array, solved: Solved, damping: float) -> Solved:
  """The same masks with the exact weights on them, where these are better."""
  shared, width = _least_squares.supports(np.asarray(solved.masks))
  exact = _least_squares.solve(matrices, gram, solved.masks, damping, shared=shared, width=width)
  errors = [_all_squares(gram, each.matrices - matrices) for each in (exact, solved)]
  better = errors[0] < errors[1]
  return Solved(
    jnp.where(better[:, None, None], exact.matrices, solved.matrices),
    solved.masks,
    jnp.where(better, exact.damping, solved.damping),
  )


def _squares(gram: jax.Array, apart: jax.Array) -> jax.Array:
  return jnp.sum(apart * _dot(gram, apart))


@jax.jit
def _all_squares(gram: jax.Array, apart: jax.Array) -> jax.Array:
  return _hessian.one_by_one(_squares, gram, apart)


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


def _conjugate_gradients(
  gram: jax.Array, target: jax.Array, start: jax.Array, keep: jax.Array, steps: Any
) -> jax.Array:
  """Nearer to the minimum over the kept entries; the diagonal is 1, so it needs no other scale."""
  masked = lambda x: jnp.where(keep, x, 0.0)
  rest = masked(_dot(gram, target - start))
  ratio = lambda a, b: jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), 0.0)
  squares = lambda x: jnp.sum(jnp.square(x), axis=0, keepdims=True)

  def step(_: Any, state: Any) -> Any:
    w, rest, way, size = state
    ahead = masked(_dot(gram, way))
    length = ratio(size, jnp.sum(way * ahead, axis=0, keepdims=True))
    w, rest = w + length * way, rest - length * ahead
    new = squares(rest)
    return w, rest, rest + ratio(new, size) * way, new

  return lax.fori_loop(0, steps, step, (start, rest, rest, squares(rest)))[0]


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
