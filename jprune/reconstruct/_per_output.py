"""Every output loses the same number of inputs, or one more: the grouping of Wanda."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, _hosts, tree
from jprune._entry import public
from jprune.graph import Stats
from jprune.graph._statistics.stats import Use
from jprune.masks import NOfM, Unstructured
from jprune.reconstruct import _choose, _counts, _hessian, _leaves, _matrix_solvers
from jprune.reconstruct._devices import returned, untyped
from jprune.typing import Masks, Scores, Sparsities, Where


@public
def per_output(
  scores: Scores,
  stats: Stats,
  sparsity: Sparsities = None,
  *,
  pattern: Unstructured | NOfM = Unstructured(),
  where: Where = None,
  masks: Masks = None,
) -> Masks:
  """Prunes the lowest-scoring weights of every output, of each the same number.

  Exactly ``round(sparsity * size)`` weights of a leaf go: ``sparsity * inputs`` of each output,
  and where that is no integer it is rounded down, and those outputs lose one weight more whose
  next weight scores lowest. Of a leaf whose inputs are split over several products, these are the
  inputs of an output in each of them. Among equal scores the lowest flat index is kept first.

  What the inputs and outputs of a kernel are, whatever its shape, is known from the products that
  it was captured in: heads, experts, scanned layers and the windows of convolutions included. For
  kernels ``(..., inputs, outputs)`` of which each output gives an integer it is
  :func:`jprune.masks.top_k_rows` along axis -2.

  Args:
    scores: tree of floating arrays, higher = keep; ``None`` leaves get ``None``.
    stats: a :class:`jprune.graph.Stats` of the leaves that are scored; no Gram matrices are needed.
    sparsity: fraction of zeros in [0, 1]: a number, a tree with the structure of the scores
      (``None`` = stays dense), or a dict from leaf path to number. Left out for
      :class:`jprune.masks.NOfM`.
    pattern: ``Unstructured()``, or an ``NOfM`` whose axis is summed over in the product.
    where: which leaves, as for :func:`jprune.prune`.
    masks: of an earlier round, with the structure of the scores. What they pruned goes and counts;
      an output that is sparser already than the others stays so, and they lose less. Leaves that
      are not selected keep their mask.

  Returns:
    Bool masks, ``None`` for other leaves.

  Raises:
    ValueError: if a sparsity is outside [0, 1], the pattern doesn't fit a leaf, nothing is
      selected, a score is NaN, or statistics of a selected leaf are missing.
    TypeError: if an argument is of another type, or a leaf is traced.

  Examples:
    >>> fn = lambda params, x: jnp.einsum('nhk,hkd->nd', x, params['w'])  # two input axes
    >>> params = {'w': jnp.arange(1.0, 9.0).reshape(2, 2, 2)}
    >>> _, stats = jprune.graph.capture(fn, params, jnp.ones((3, 2, 2)))
    >>> masks = per_output(jprune.scores.wanda(params, stats), stats, 0.75)
    >>> masks['w'].astype(int).reshape(4, 2)
    Array([[0, 0],
           [0, 0],
           [0, 0],
           [1, 1]], dtype=int32)

  References:
    Sun et al., A simple and effective pruning approach for large language models, ICLR 2024,
    arXiv:2306.11695 (section 3)
  """
  if isinstance(pattern, type):
    raise _checks.bad_pattern('per_output', pattern)
  is_none = lambda leaf: leaf is None
  paths, leaves, treedef = tree.flatten(scores, is_leaf=is_none)
  found = _leaves.chosen('per_output', scores, stats, where)
  values = dict(zip(found.paths, _counts.sparsities_of('per_output', found, sparsity, pattern)))
  selected = dict(zip(found.paths, found.selected))
  held = dict(zip(found.paths, _matrix_solvers.earlier('per_output', scores, masks)))
  out = []
  for path, leaf in zip(paths, leaves):
    value = values.get(path)
    if isinstance(pattern, NOfM):
      value = pattern.sparsity
    if not selected.get(path) or value is None:
      out.append(held.get(path))
      continue
    uses = _leaves.places_of('per_output', stats, path, leaf)
    _checks.check_no_nan('per_output', 'scores', path, leaf)
    with untyped(jnp.asarray(leaf), held[path]) as (moved, before):
      mask = _masked_leaf('per_output', path, moved, uses, value, pattern, before)
    out.append(returned(mask, leaf))
  return treedef.unflatten(out)


def _masked_leaf(
  function: str,
  path: str,
  scores: Any,
  uses: list[Use],
  sparsity: float,
  pattern: Any,
  before: Any,
) -> jax.Array:
  """The mask of one leaf, whose uses have been checked; what ``before`` pruned ranks lowest."""
  if before is not None:
    scores = jnp.where(before, scores.astype(jnp.float32), -jnp.inf)
  mask = jnp.ones(scores.shape, bool)
  if isinstance(pattern, NOfM):
    for use in uses:
      along, _ = _counts.grouped_along(function, path, scores, use, pattern)
      mask = along.placed(mask, _groups(along.matrices(scores), pattern.n, pattern.m))
    return mask if before is None else mask & before
  count = round(sparsity * scores.size)
  counts = [np.full((use.sizes[0], use.sizes[2]), int(sparsity * use.sizes[1])) for use in uses]
  free = [np.ones(each.shape, bool) for each in counts]
  if before is not None:
    gone = [_counts.gone_of(before, use) for use in uses]
    counts, free = _counts.levels_of_outputs(count, uses, gone)
  each = [
    _rows(use.matrices(scores).astype(jnp.float32), jnp.asarray(n, jnp.int32), *_counts.orders(use))
    for use, n in zip(uses, counts)
  ]
  rest = max(count - int(sum(n.sum() for n in counts)), 0)
  more = _lowest_next(each, uses, scores.shape, rest, free)
  for use, (low, upcoming, _), chosen in zip(uses, each, more):
    mask = use.placed(mask, ~(low | (upcoming & chosen[:, None, :])))
  return mask if before is None else mask & before


def _lowest_next(
  each: Sequence[tuple[jax.Array, jax.Array, jax.Array]],
  uses: Sequence[Use],
  shape: tuple[int, ...],
  count: int,
  free: Sequence[np.ndarray],
) -> list[np.ndarray]:
  """For each use which outputs, ``(batch, outputs)``, lose one weight more; ``count`` in all.

  ``free`` says of which outputs these may be.
  """
  found, places = [], []
  for (_, upcoming, scores), use, may in zip(each, uses, free):
    if not count:  # nothing to compare
      return [np.zeros((use.sizes[0], use.sizes[2]), bool) for use in uses]
    batch, inputs, outputs = _counts.flat_places(use, shape)
    row = _hosts.whole(jnp.argmax(upcoming, axis=1))
    places.append((batch[:, None] + inputs[row] + outputs[None, :]).ravel())
    left = _hosts.whole(jnp.any(upcoming, axis=1)) & may
    found.append((~left.ravel(), _hosts.whole(scores).ravel()))
  order = np.lexsort((-np.concatenate(places), *np.concatenate(found, axis=1)[::-1]))
  chosen = np.zeros(order.size, bool)
  chosen[order[:count]] = True
  ends = np.cumsum([len(each) for each in places])[:-1]
  return [
    part.reshape(use.sizes[0], use.sizes[2]) for part, use in zip(np.split(chosen, ends), uses)
  ]


@functools.partial(jax.jit, static_argnames=['n', 'm'])
def _groups(matrices: jax.Array, n: int, m: int) -> jax.Array:
  return _hessian.one_by_one(lambda x: _choose.best_of_groups(x, n, m), matrices)


@jax.jit
def _rows(
  matrices: jax.Array, counts: jax.Array, rows: jax.Array, columns: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """What goes of each output, the weight that is next, and its score, ``(batch, outputs)``."""
  order = rows[:, None] + columns[None, :]

  def one(x: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    low = _choose.lowest(x, count, order, True)
    upcoming = _choose.lowest(x, count + 1, order, True) & ~low
    return low, upcoming, jnp.min(x, axis=0, where=upcoming, initial=jnp.inf)

  return _hessian.one_by_one(one, matrices, counts)
