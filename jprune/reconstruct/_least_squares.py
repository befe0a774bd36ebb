"""Given a mask, the kept weights that reproduce the outputs best."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.scipy.linalg import cho_solve

from jprune import _checks, tree
from jprune._entry import public
from jprune.graph import Stats
from jprune.masks._apply import aligned
from jprune.masks._pack import unpack_leaf
from jprune.reconstruct import _errors, _hessian, _leaves, _units
from jprune.reconstruct._report import Repair
from jprune.reconstruct._solving import Matrices, Solved, Solver, macs_of_errors
from jprune.typing import Masks, Params, Where

_MEMORY = 2**24  # entries of the matrices that are factorised at a time


@public
def least_squares(
  params: Params, stats: Stats, masks: Masks, *, where: Where = None, damping: float = 0.0
) -> tuple[Params, Masks, Repair]:
  r"""Fits the kept weights anew, so that outputs are as near as can be to those of dense weights.

  For each output :math:`j` with kept inputs :math:`S`, pruned inputs :math:`P` and the Gram matrix
  :math:`H` of the inputs,

  .. math:: w_S \leftarrow w_S + H_{SS}^{-1} H_{SP} \, w_P

  the exact minimum of :math:`\lVert X w - X w_0 \rVert^2` over weights on the support. Where all
  outputs of a matrix have one support, as with pruned channels, a single factorisation serves all
  of them: what the pruned units did is folded into the survivors, and units that are copies or
  linear combinations of others go without a trace. Else each output takes one of its own, the size
  of its support; SparseGPT is cheaper. Biases are not touched.

  Args:
    params: tree of dense arrays.
    stats: a :class:`jprune.graph.Stats` of these params, captured with ``gram=True``.
    masks: tree of the structure of the params; leaves bool or packed, of the param's shape, or
      ``None`` (= the leaf stays as it is).
    where: which of the leaves with a mask are repaired, as for :func:`jprune.prune`; by default
      also what was captured. The others are only masked.
    damping: pull of the kept weights towards what they were, as a fraction of the mean of the
      diagonal of :math:`H`, over which it is added; at least 0. With none the fit is exact; more
      rows than inputs, and some damping, keep it from following the noise of few rows. A matrix
      that can't be factorised is damped by 1e-6, then tenfold until it can, and the report says so.

  Returns:
    ``(params, masks, report)``: params of the same shapes and dtypes with exactly 0.0 where pruned;
    the masks, unpacked; a :class:`Repair`.

  Raises:
    ValueError: if structures or shapes differ, nothing is selected, or a weight isn't finite; if
      statistics of a leaf to repair are missing, without Gram matrices, of no row, or not finite;
      if a repaired weight is too large for the leaf's dtype.
    TypeError: if a mask is not bool, ``damping`` isn't a number, or a leaf is traced.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> params = {'w': jnp.array([[1.0, 1.0], [2.0, 3.0], [4.0, 5.0]])}
    >>> x = jnp.array([[1.0, 1.0, 0.0], [2.0, 2.0, 1.0]])  # the first two inputs are equal
    >>> _, stats = jprune.graph.capture(fn, params, x, gram=True)
    >>> masks = {'w': jnp.array([[False] * 2, [True] * 2, [True] * 2])}
    >>> least_squares(params, stats, masks)[0]['w'].round(2)
    Array([[0., 0.],
           [3., 4.],
           [4., 5.]], dtype=float32)

  References:
    Hassibi and Stork, Second order derivatives for network pruning: optimal brain surgeon,
    NeurIPS 1992; He et al., Channel pruning for accelerating very deep neural networks, ICCV 2017,
    arXiv:1707.06168 (the refit after channels were chosen)
  """
  damping = _checks.non_negative_number('least_squares', 'damping', damping)
  _errors.check_stats_second('least_squares', stats, masks)
  _checks.check_stats('least_squares', stats)
  held = aligned('least_squares', params, masks)
  found = _leaves.chosen('least_squares', params, stats, _usual(params, stats, where))
  todo, left = {}, {}
  for i, (path, leaf) in enumerate(zip(found.paths, found.leaves)):
    if held[i] is None:
      left[i] = 'no mask'
    elif found.selected[i]:
      _check_mask(path, leaf, held[i])
      todo[i] = _leaves.uses_of('least_squares', stats, path, leaf)
    else:
      _checks.check_values('least_squares', path, leaf)
      left[i] = f'only masked, {found.skipped[i] or "not selected"}'
  held = [None if mask is None else unpack_leaf(mask) for mask in held]
  outcomes, tasks = {}, {}
  for i, uses in todo.items():
    path, leaf, mask = found.paths[i], jnp.asarray(found.leaves[i]), jnp.asarray(held[i])
    if _units.count_kept(mask) == leaf.size:
      outcomes[i] = _leaves.untouched(path, leaf, 'nothing to repair')
    else:
      tasks[i] = _leaves.masked_task(path, leaf, uses, mask, LeastSquares(), damping)
  outcomes |= zip(tasks, _units.solved('least_squares', list(tasks.values())), strict=True)
  params, _, report = _leaves.gathered('least_squares', found, stats, outcomes, left, held)
  return params, found.treedef.unflatten(held), report


def _usual(params: Params, stats: Stats, where: Where) -> Where:
  """The default, and what was captured besides: masks of channels prune narrow kernels too."""
  if where is not None:
    return where
  paths, leaves, treedef = tree.flatten(params)
  known = {path for path, _ in stats.uses}
  usual = [
    why is None or (path in known and tree.is_floating(leaf))
    for path, leaf, why in zip(paths, leaves, tree.skipped(params))
  ]
  return treedef.unflatten(usual) if any(usual) else where


@functools.partial(jax.jit, static_argnames=['shared', 'width'])
def solve(
  matrices: jax.Array,
  gram: jax.Array,
  masks: jax.Array,
  damping: Any,
  *,
  shared: bool,
  width: int,
) -> Solved:
  """Refits the kept weights; compiled once for each shape and width.

  Args:
    matrices: ``(batch, inputs, outputs)``.
    gram: ``(batch, inputs, inputs)``.
    masks: of the shape of ``matrices``.
    damping: fraction of the mean of the diagonal, one or ``(batch,)``.
    shared: whether the outputs of a matrix, but for those without any inputs, have one support.
    width: inputs of the largest support, or more.
  """

  def one(w: jax.Array, gram: jax.Array, keep: jax.Array, damping: jax.Array) -> Solved:
    gram, _, mean = _hessian.settled(gram)
    # as definite as it is, so is every part of it
    _, used = _hessian.factorised(gram, mean, damping)
    damped = gram + used * mean * jnp.eye(gram.shape[0], dtype=gram.dtype)
    lost = jnp.where(keep, 0.0, w)
    missing = jnp.matmul(gram, lost, precision=lax.Precision.HIGHEST)
    if shared:
      more = _on_support(damped, missing, jnp.any(keep, axis=1), width)
    else:
      column = lambda pair: _on_support(damped, pair[0][:, None], pair[1], width)[:, 0]
      at_a_time = max(_MEMORY // max(width * width, 1), 1)
      pairs = (missing.T, keep.T)
      more = lax.map(column, pairs, batch_size=min(at_a_time, w.shape[1])).T
    return Solved(jnp.where(keep, w + more, 0.0), keep, used)

  damping = jnp.broadcast_to(jnp.asarray(damping, jnp.float32), matrices.shape[:1])
  return _hessian.one_by_one(one, matrices.astype(jnp.float32), gram, masks, damping)


def _on_support(gram: jax.Array, right: jax.Array, keep: jax.Array, width: int) -> jax.Array:
  """Solves on the kept inputs, gathered and filled up with an identity; zero elsewhere."""
  (places,) = jnp.nonzero(keep, size=width, fill_value=0)
  there = jnp.arange(width) < jnp.sum(keep)
  both = there[:, None] & there[None, :]
  identity = jnp.eye(width, dtype=gram.dtype)
  part = jnp.where(both, gram[places[:, None], places[None, :]], identity)
  lower = jnp.linalg.cholesky(part, symmetrize_input=False)
  found = cho_solve((lower, True), jnp.where(there[:, None], right[places], 0.0))
  return jnp.zeros_like(right).at[places].add(jnp.where(there[:, None], found, 0.0))


def supports(keep: jax.Array) -> jax.Array:
  """Of masks two numbers each, ``(batch, 2)``.

  Whether all outputs of a matrix, but for those without any inputs, have one support; and the
  inputs of the largest support, a little up for fewer shapes.
  """
  inputs = keep.shape[1]
  some = jnp.any(keep, axis=2, keepdims=True) & jnp.any(keep, axis=1, keepdims=True)
  shared = jnp.all(keep == some, axis=(1, 2)).astype(jnp.int32)
  step = max(-(-inputs // 16), 1)
  most = jnp.max(jnp.sum(keep, axis=1, dtype=jnp.int32), axis=1, initial=0)
  return jnp.stack([shared, jnp.minimum(-(-most // step) * step, inputs)], axis=1)


def program_of(supports: np.ndarray) -> tuple[bool, int]:
  """What all matrices of a unit are solved by."""
  return bool(supports[:, 0].all()), int(supports[:, 1].max(initial=0))


@dataclasses.dataclass(frozen=True)
class LeastSquares(Solver):
  """As owners run it, on masks of what is kept; numbers: the damping."""

  looks = True

  def look(self, given: Matrices) -> tuple[None, jax.Array]:
    return None, supports(given.mask)

  def program(self, seen: np.ndarray) -> tuple[bool, int]:
    return program_of(seen)

  def solve(self, program: tuple[bool, int], given: Matrices, state: None) -> Solved:
    shared, width = program
    damping = given.common.numbers[0]
    return solve(given.weights, given.gram, given.mask, damping, shared=shared, width=width)

  @classmethod
  def floats(cls, sizes: tuple[int, int, int], sparsity: float) -> int:
    _, inputs, outputs = sizes
    width = round((1 - sparsity) * inputs)
    at_a_time = min(max(_MEMORY // max(width * width, 1), 1), outputs)
    return 3 * inputs**2 + 4 * inputs * outputs + 2 * at_a_time * width**2

  @classmethod
  def macs(cls, sizes: tuple[int, int, int], sparsity: float, **options: Any) -> int:
    _, inputs, outputs = sizes
    width = round((1 - sparsity) * inputs)
    factors = (inputs**3 + outputs * width**3) // 6
    return factors + (inputs**2 + width**2) * outputs + macs_of_errors(sizes)


def _check_mask(path: str, leaf: Any, mask: Any) -> None:
  if isinstance(mask, Tracer):
    raise _checks.traced('least_squares', 'masks', path, leaf)
