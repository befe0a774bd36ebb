"""ALPS: the mask and the weights are found together, by ADMM and conjugate gradients."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks
from jprune._entry import public
from jprune.graph import Stats
from jprune.masks import NOfM, Unstructured
from jprune.reconstruct import _alps_core, _least_squares, _matrix_solvers
from jprune.reconstruct._report import Repair
from jprune.reconstruct._solving import Matrices, Solved, Solver, macs_of_errors
from jprune.typing import Masks, Params, Sparsities, Where

_ROWS = 2  # times as many as inputs: with fewer, exact weights would follow their noise


@public
def alps(
  params: Params,
  stats: Stats,
  sparsity: Sparsities = None,
  *,
  pattern: Unstructured | NOfM = Unstructured(),
  where: Where = None,
  masks: Masks = None,
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
    where: which leaves, as for :func:`jprune.prune`.
    masks: as for :func:`sparsegpt`.
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
    >>> params = {'w': jnp.array([[1.0, 1.0], [2.0, 3.0]])}
    >>> x = jnp.array([[1.0, 1.0], [1.0, 1.0]])  # the inputs are equal
    >>> _, stats = jprune.graph.capture(fn, params, x, gram=True)
    >>> small, masks, report = alps(params, stats, 0.5, damping=1e-4)
    >>> small['w'].round(2)
    Array([[0., 0.],
           [3., 4.]], dtype=float32)

  References:
    Meng et al., ALPS: improved optimization for highly sparse one-shot pruning for large language
    models, NeurIPS 2024, arXiv:2406.07831 (Algorithms 1 and 2)
  """
  _checks.check_positive_int('alps', 'iterations', iterations)
  _checks.check_positive_int('alps', 'steps', steps)
  damping = _matrix_solvers.options('alps', damping, per_output, pattern)

  n_of_m = (pattern.n, pattern.m) if isinstance(pattern, NOfM) else None
  return _matrix_solvers.leaf_by_leaf(
    'alps', params, stats, sparsity, pattern, where, masks,
    ALPS(n_of_m, per_output), (damping, iterations, steps), lambda inputs: [inputs], per_output,
  )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ALPS(Solver):
  """As owners run it; numbers: damping, iterations, steps."""

  n_of_m: tuple[int, int] | None
  per_output: bool
  looks = True

  def look(self, given: Matrices) -> tuple[_alps_core.Found, jax.Array]:
    """Weights on two or three masks, and what to know of each: done, one support, how wide."""
    damping, *limits = given.common.numbers
    found = _alps_core.solve(
      given.weights, given.gram, given.counts[:, 0], given.common.orders, damping, _pull(given),
      tuple(limits), n_of_m=self.n_of_m, per_output=self.per_output, alive=given.mask,
    )  # fmt: skip
    seen = [_least_squares.supports(found.masks[:, i]) for i in range(found.masks.shape[1])]
    done = jnp.all(found.done, axis=1).astype(jnp.int32)
    return found, jnp.concatenate([done[:, None], *seen], axis=1)

  def program(self, seen: np.ndarray) -> Any:
    """Which exact weights are tried too, if any got stuck; ``None`` if none did."""
    done, supports = seen[:, 0], seen[:, 1:].reshape(-1, 2)
    return None if done.all() else _least_squares.program_of(supports)

  def solve(self, program: Any, given: Matrices, state: _alps_core.Found) -> Solved:
    """For each matrix those weights whose outputs are nearest, exact ones where others aren't."""
    used = jnp.broadcast_to(jnp.float32(given.common.numbers[0]), given.rows.shape)
    masks = [state.masks[:, i] for i in range(state.masks.shape[1])]
    options = [Solved(state.weights[:, i], mask, used) for i, mask in enumerate(masks)]
    if program is not None:
      shared, width = program
      options += [
        _least_squares.solve(
          state.dense, given.gram, mask, _pull(given), shared=shared, width=width
        )
        for mask in masks
      ]
    errors = jnp.stack([_alps_core.squares(given.gram, x.matrices - state.dense) for x in options])
    best = jnp.argmin(jnp.where(jnp.isnan(errors), jnp.inf, errors), axis=0)
    return jax.tree.map(lambda *each: _of_each(jnp.stack(each), best), *options)

  @classmethod
  def floats(cls, sizes: tuple[int, int, int], sparsity: float) -> int:
    _, inputs, outputs = sizes
    exact = _least_squares.LeastSquares.floats(sizes, sparsity)
    return 2 * inputs**2 + 12 * inputs * outputs + exact

  @classmethod
  def macs(
    cls,
    sizes: tuple[int, int, int],
    sparsity: float,
    iterations: int = 300,
    steps: int = 10,
    **options: Any,
  ) -> int:
    _, inputs, outputs = sizes
    products = 2 * iterations + 3 * _alps_core.MORE * steps
    return 5 * inputs**3 + products * inputs**2 * outputs + macs_of_errors(sizes)


def _pull(given: Matrices) -> jax.Array:
  """The damping of the fit, ``(batch,)``: none where there are rows enough."""
  damping = jnp.float32(given.common.numbers[0])
  return jnp.where(given.rows >= _ROWS * given.gram.shape[-1], jnp.float32(0), damping)


def _of_each(options: jax.Array, best: jax.Array) -> jax.Array:
  """The best one of ``(options, batch, ...)`` for each of the batch."""
  return jnp.take_along_axis(options, best.reshape(1, -1, *[1] * (options.ndim - 2)), axis=0)[0]
