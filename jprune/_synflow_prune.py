"""Pruning in many rounds, each of them scored anew."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jprune import _checks, schedules, tree
from jprune._batches import shown
from jprune._entry import public
from jprune.masks import NOfM, Unstructured
from jprune.masks._apply import aligned, zero_where_pruned
from jprune.masks._auto import following
from jprune.masks._leaves import kept
from jprune.masks._pack import unpack_leaf
from jprune.masks._patterns import unit_scores, units_shape
from jprune.masks._selection import keys as _keys
from jprune.masks._selection import select as _select
from jprune.masks._selection import wide as _wide
from jprune.scores._gradients import Leaves, Weights, placed_like
from jprune.scores._synflow import check_flow, flow_of
from jprune.tree._selected import selected_for
from jprune.typing import Masks, Params, Pattern, Where

_NAME = 'synflow_prune'

State = list[jax.Array | None]
"""The mask so far of each floating leaf; ``None``: all of it stays."""


@public
def synflow_prune(
  fn: Callable[..., Any],
  params: Params,
  *args: Any,
  sparsity: float,
  rounds: int = 100,
  where: Where = None,
  pattern: Pattern = Unstructured(),
  masks: Masks = None,
  progress: bool = True,
) -> Masks:
  r"""Prunes by synaptic flow in many rounds: without data, and without emptying a layer.

  In round r the params as pruned so far are scored by :func:`jprune.scores.synflow`, and one
  threshold over all selected leaves leaves the density

  .. math:: (1 - \text{sparsity})^{r / \text{rounds}}

  so each round removes the same fraction of what is left, :func:`jprune.schedules.exponential`.
  Scores are conserved from layer to layer, so that the weights of a layer score the more the
  fewer they are. If a round removes little enough, no layer loses its last weight before all
  others are down to one. Masks are nested from round to round; the last one is exact in number.

  Usable under ``jit``, the sparsity may be traced; all rounds share one compilation.

  Args:
    fn: ``fn(params, *args)`` returns outputs; in inference mode. See
      :func:`jprune.scores.synflow`.
    params: tree of arrays, of an untrained network as a rule.
    *args: further arguments; floating arrays are replaced by ones, shape structs will do.
    sparsity: fraction of zeros over all selected leaves, in [0, 1).
    rounds: how many rounds, at least 1; 1 prunes at once.
    where: selects the leaves to prune, as for :func:`jprune.prune`. All other leaves take part in
      the flow.
    pattern: which weights live and die together; not :class:`~jprune.masks.NOfM`.
    masks: of an earlier pruning. What they pruned stays pruned and counts towards the sparsity;
      leaves that are not selected keep their mask.
    progress: whether to show a bar, in terminals and notebooks, if it takes long.

  Returns:
    Masks with the structure of ``params``: a bool array for each selected leaf (``True`` =
    keep), ``None`` for the others.

  Raises:
    ValueError: if nothing is selected, the sparsity is outside [0, 1), ``rounds`` isn't an int of
      at least 1, the pattern doesn't fit, structures differ, or scores overflow.
    TypeError: if a selected leaf is not floating, or ``fn`` is no function of the params that
      returns floating arrays.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.array([[1.0, -2.0]] * 2), 'out': jnp.array([[3.0, 3.0], [-1.0, -1.0]])}
    >>> synflow_prune(fn, params, jnp.zeros((1, 2)), sparsity=0.5, rounds=2)['out'][:, 0]
    Array([ True, False], dtype=bool)

  References:
    Tanaka et al., Pruning neural networks without any data by iteratively conserving synaptic
    flow, NeurIPS 2020, arXiv:2006.05467 (algorithm 1)
  """
  weights = Weights(_NAME, params)
  _check(sparsity, rounds, pattern)
  every = selected_for(_NAME, params, where)
  chosen = [j for j, i in enumerate(weights.places) if every[i]]
  for j in chosen:
    pattern.check(_NAME, weights.paths[j], weights.floating[j].shape)
  before = [None] * len(every) if masks is None else aligned(_NAME, params, masks)
  out = [None if mask is None else unpack_leaf(mask) for mask in before]
  state = [out[i] for i in weights.places]
  for j in chosen:
    if state[j] is None:
      state[j] = jnp.ones_like(weights.floating[j], bool)
  flow, inputs = flow_of(weights, fn, args)
  schedule = schedules.exponential(0.0, sparsity, 0, rounds)
  sizes = [math.prod(units_shape(pattern, weights.floating[j])) for j in chosen]
  ks = [kept(schedule(r + 1), sizes) for r in range(rounds)]

  def score(state: State, given: Any) -> tuple[Leaves, jax.Array]:
    floating, arrays, inputs = given
    masked = [zero_where_pruned(leaf, mask) for leaf, mask in zip(floating, state)]
    found, finite = flow(masked, arrays, inputs)
    # what is pruned ranks last and stays so
    return [_keys.marked(found[j], state[j]) for j in chosen], finite

  def select(state: State, scores: Leaves, k: Any) -> State:
    new = list(state)
    for j, mask in zip(chosen, _best(pattern, scores, k)):
      before = state[j]
      new[j] = mask if before is None else before & mask
    return new

  given = (weights.floating, weights.arrays, inputs)
  if tree.is_traced(*jax.tree.leaves((given, state, ks))):
    state = _scanned(score, select, state, given, ks)
  else:
    # concrete scores are selected from without compiling a search
    run = jax.jit(score)
    for k in shown(_NAME, ks, progress, 'round'):
      found, finite = run(state, given)
      check_flow(weights, finite)
      state = select(state, found, k)
  for i, mask, leaf in zip(weights.places, state, weights.floating):
    out[i] = None if mask is None else placed_like(mask, leaf)
  return jax.tree.structure(params).unflatten(out)


def _check(sparsity: Any, rounds: Any, pattern: Any) -> None:
  if sparsity is None:
    raise _checks.no_sparsity(_NAME)
  _checks.check_fraction(_NAME, 'sparsity', sparsity)
  _checks.check_below_one(_NAME, 'sparsity', sparsity)
  _checks.check_positive_int(_NAME, 'rounds', rounds)
  if isinstance(pattern, NOfM):
    raise _checks.pattern_not_global(_NAME, pattern)
  _checks.check_pattern(_NAME, pattern)


def _best(pattern: Any, scores: Leaves, k: Any) -> Leaves:
  """Masks of the k best units."""

  def best(xs: Leaves, k: Any) -> Leaves:
    units = _select.largest_together([unit_scores(pattern, x, jnp.float32) for x in xs], k)
    return [pattern.expand(unit, x.shape) for unit, x in zip(units, xs)]

  return following(best, scores, k)


def _scanned(score: Any, select: Any, state: State, given: Any, ks: list[Any]) -> State:
  """All rounds in one loop, for a trace."""

  def one(state: State, k: jax.Array) -> tuple[State, None]:
    return select(state, score(state, given)[0], k), None

  wide = [_wide.constant(k) if isinstance(k, int) else k for k in ks]
  return lax.scan(one, state, jnp.stack(wide))[0]
