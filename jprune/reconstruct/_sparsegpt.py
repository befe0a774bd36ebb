"""SparseGPT: which weights go is chosen block by block, on weights that were already repaired."""

from __future__ import annotations

import dataclasses
from typing import Any

from jprune import _checks
from jprune._entry import public
from jprune.graph import Stats
from jprune.masks import NOfM, Unstructured
from jprune.reconstruct import _matrix_solvers, _sparsegpt_core
from jprune.reconstruct._report import Repair
from jprune.reconstruct._solving import Matrices, Solved, Solver, macs_of_errors
from jprune.typing import Masks, Params, Sparsities, Where


@public
def sparsegpt(
  params: Params,
  stats: Stats,
  sparsity: Sparsities = None,
  *,
  pattern: Unstructured | NOfM = Unstructured(),
  where: Where = None,
  masks: Masks = None,
  per_output: bool = False,
  block: int = 128,
  damping: float = 0.01,
) -> tuple[Params, Masks, Repair]:
  r"""Prunes in one shot; the inputs still to come make up for each weight that goes.

  With :math:`H` the damped Gram matrix of the inputs and :math:`U` upper triangular such that
  :math:`U^\top U = H^{-1}`, inputs :math:`i` are passed through in order, and of each block those
  weights go that score lowest,

  .. math:: s_{ij} = \frac{W_{ij}^2}{U_{ii}^2}, \qquad
     W_{i' j} \leftarrow W_{i' j} - U_{i i'} \frac{W_{ij}}{U_{ii}} \quad (i' > i)

  Exactly ``round(sparsity * size)`` weights of each leaf go. As masks are chosen block by block,
  every block gives its share of them, fractions carried over to the next. (The reference
  implementation prunes one weight more in each block.) Among equal scores the lowest flat index
  is kept first. Inputs that are always zero get weights of zero, as nothing is known of them, and
  don't count for the damping; of a leaf's products that have seen no row (an expert that nothing
  is routed to) all inputs count as alike, which is pruning by magnitude.

  Everything is computed in float32, for arrays at hand (not under ``jit``), and compiled once for
  each shape. Inputs and weights are divided by powers of two first, so they may be of any size; but
  an input that is 1e-19 times as large as the largest of its product counts as always zero.

  Args:
    params: tree of arrays.
    stats: a :class:`jprune.graph.Stats` of these params, captured with ``gram=True``.
    sparsity: fraction of zeros in [0, 1]: a number, a tree with the structure of the params
      (``None`` = stays dense), or a dict from leaf path to number. Left out for
      :class:`jprune.masks.NOfM`.
    pattern: ``Unstructured()``, or an ``NOfM`` whose axis is summed over in the product, as -2 is
      in kernels ``(inputs, outputs)``; it must divide.
    where: which leaves, as for :func:`jprune.prune`.
    masks: of an earlier round. What they pruned goes and counts towards the sparsity, whatever
      values it has; a leaf that is sparser already stays so. Leaves that are not selected keep
      their mask.
    per_output: whether each output loses the same number of weights, where that is no integer
      some of them one more, instead of all weights of a block competing. Not looked at with an
      ``NOfM``.
    block: inputs whose mask is chosen at a time.
    damping: what is added to the diagonal of :math:`H`, as a fraction of its mean; at least 0.
      If the matrix can't be factorised it grows tenfold until it can, and the report says so.

  Returns:
    ``(params, masks, report)``: params of the same shapes and dtypes with exactly 0.0 where pruned;
    bool masks, ``None`` for other leaves; a :class:`Repair`.

  Raises:
    ValueError: if a sparsity is outside [0, 1], the pattern doesn't fit a leaf, nothing is
      selected, or a weight isn't finite; if statistics of a selected leaf are missing, without
      Gram matrices, of no row, or not finite; if a repaired weight is too large for the dtype.
    TypeError: if an argument is of another type, or a leaf is traced.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> params = {'w': jnp.array([[1.0, 1.0], [2.0, 3.0]])}
    >>> x = jnp.array([[1.0, 1.0], [1.0, 1.0]])  # the inputs are equal
    >>> _, stats = jprune.graph.capture(fn, params, x, gram=True)
    >>> small, masks, report = sparsegpt(params, stats, 0.5, damping=1e-4)
    >>> small['w'].round(2)  # the second makes up for the first
    Array([[0., 0.],
           [3., 4.]], dtype=float32)

  References:
    Frantar and Alistarh, SparseGPT: massive language models can be accurately pruned in one-shot,
    ICML 2023, arXiv:2301.00774 (Algorithm 1)
  """
  _checks.check_positive_int('sparsegpt', 'block', block)
  damping = _matrix_solvers.options('sparsegpt', damping, per_output, pattern)

  n_of_m = (pattern.n, pattern.m) if isinstance(pattern, NOfM) else None

  def parts(inputs: int) -> list[int]:
    size, _, blocks = _sparsegpt_core.sizes_of(inputs, block, n_of_m)
    return [min(size, inputs - size * i) for i in range(blocks)]

  return _matrix_solvers.leaf_by_leaf(
    'sparsegpt', params, stats, sparsity, pattern, where, masks,
    SparseGPT(block, n_of_m, per_output), (damping,), parts, per_output,
  )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SparseGPT(Solver):
  """As owners run it; numbers: the damping."""

  block: int
  n_of_m: tuple[int, int] | None
  per_output: bool

  def solve(self, program: None, given: Matrices, state: None) -> Solved:
    return _sparsegpt_core.solve(
      given.weights, given.gram, given.counts, given.common.orders, given.common.numbers[0],
      block=self.block, n_of_m=self.n_of_m, per_output=self.per_output, alive=given.mask,
    )  # fmt: skip

  @classmethod
  def floats(cls, sizes: tuple[int, int, int], sparsity: float) -> int:
    _, inputs, outputs = sizes
    return 13 * inputs**2 // 2 + inputs * outputs // 2

  @classmethod
  def macs(cls, sizes: tuple[int, int, int], sparsity: float, **options: Any) -> int:
    _, inputs, outputs = sizes
    return 2 * inputs**3 // 3 + inputs**2 * outputs // 2 + macs_of_errors(sizes)
