"""Denser where more scores stand out: outlier weighed layerwise sparsity."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, _hosts, tree
from jprune._entry import public
from jprune._roles import Roles
from jprune.distributions import _errors
from jprune.distributions._common import competing
from jprune.distributions._needs import says
from jprune.masks._forms import Forms
from jprune.masks._patterns import Unstructured
from jprune.typing import Params, Scores, Sparsities


@says(needs_sparsity=True)
@public
def owl(
  params: Params,
  scores: Scores,
  sparsity: float,
  *,
  m: float = 5.0,
  lam: float = 0.08,
  groups: str | re.Pattern[str] | Callable[[str], Any] | None = None,
  roles: Roles | None = None,
) -> Sparsities:
  r"""Outlier weighed layerwise sparsity: leaves with more outliers among their scores stay denser.

  With :math:`D_l` the fraction of the scores of a leaf that exceed ``m`` times their mean,

  .. math:: S_l = c - 2 \lambda \, \frac{D_l - \min_k D_k}{\max_k D_k - \min_k D_k}

  and the constant :math:`c` such that the sparsities, weighted by size, average exactly to the one
  requested. So the sparsest leaf and the densest lie :math:`2 \lambda` apart; where the ratios are
  all equal, every leaf gets the overall sparsity. Sparsities are held in [0, 1].

  Meant for the scores of :func:`jprune.scores.wanda`. In the authors' code a transformer block is
  one layer, the average is over blocks, which are of one size there, and nothing is held in
  [0, 1]; ``groups`` makes blocks of leaves. With ``roles`` each layer of a stack has its own ratio.

  Args:
    params: tree of arrays or shape structs.
    scores: tree of floating arrays of that structure and those shapes, of any sign; ``None`` where
      a leaf stays dense.
    sparsity: fraction of zeros over all scored leaves together, in [0, 1].
    m: how many times the mean makes an outlier, positive.
    lam: half of how far sparsities may lie apart, in [0, 1].
    groups: which leaves share their ratio and sparsity, as if they were one: a function from leaf
      path to the name of a group, or a regular expression that is searched for in the path, whose
      only group matches the name, as in ``r'(layers_\d+)/'``. Leaves for which there is none
      (``None``, or no match) are by themselves. Of stacks, layers of one number share it.
    roles: what a function does with each leaf, from :func:`jprune.graph.roles`; of stacks then each
      layer counts. :func:`jprune.prune` passes on what it is given, or what names tell.

  Returns:
    A Python float for each leaf, of a stack among the roles a NumPy array with one for each layer;
    0.0 for a leaf without weights, ``None`` where ``scores`` is ``None``.

  Raises:
    ValueError: if no leaf is scored, the trees differ, ``sparsity`` or ``lam`` is outside [0, 1],
      ``m`` isn't positive, a regular expression is malformed, or a score is NaN.
    TypeError: if a number isn't one, ``groups`` is of another kind, or anything is traced or a
      shape struct.

  Examples:
    >>> scores = {'flat': jnp.ones(10), 'peaked': jnp.ones(10).at[3].set(100.0)}
    >>> jax.tree.map(lambda s: round(s, 3), owl(scores, scores, 0.5))
    {'flat': 0.58, 'peaked': 0.42}
    >>> from functools import partial
    >>> masks = jprune.prune(
    ...   {'a/0': jnp.ones((4, 4))}, 0.5, distribution=partial(owl, m=3.0, groups='(.*)/')
    ... )

  References:
    Yin et al., Outlier weighed layerwise sparsity (OWL), ICML 2024, arXiv:2310.05175
  """
  overall = _checks.static_fraction('owl', 'sparsity', sparsity)
  times = _checks.positive_number('owl', 'm', m)
  spread = 2 * _checks.static_fraction('owl', 'lam', lam)
  found, treedef = competing('owl', params, scores)
  paths, _, _ = tree.flatten(params)
  name = _namer(groups)
  for path, score in zip(paths, found, strict=True):
    if score is not None:
      _check_score(path, score)
  members: dict[Any, list[tuple[int, int]]] = {}
  parts = _layers(params, scores, roles)
  for i, layers in enumerate(parts):
    for number, layer in enumerate(layers):
      if tree.size(layer):
        key = (name(paths[i]), number) if len(layers) > 1 else name(paths[i])
        members.setdefault(key, []).append((i, number))
  held = [[parts[i][number] for i, number in group] for group in members.values()]
  sizes = [sum(map(tree.size, group)) for group in held]
  ratios = [_outliers(group, times) for group in held]
  solved: list[list[float]] = [[0.0] * len(layers) for layers in parts]
  for group, one in zip(members.values(), _solve(ratios, sizes, spread, overall)):
    for i, number in group:
      solved[i][number] = one
  shared = [np.array(each) if len(each) > 1 else each[0] for each in solved if each]
  return treedef.unflatten([None if score is None else shared.pop(0) for score in found])


def _layers(params: Params, scores: Scores, roles: Roles | None) -> list[tuple[Any, ...]]:
  """The layers of each leaf of the scores that is a stack; all else as one layer."""
  forms = Forms('owl', scores, Unstructured(), roles, False, tree.shapes(params))
  parts = [form.parts(x) for form, x in zip(forms.forms, forms.leaves)]
  return [x if isinstance(x, tuple) else () if x is None else (x,) for x in parts]


def _check_score(path: str, score: Any) -> None:
  if tree.is_traced(score) or isinstance(score, jax.ShapeDtypeStruct):
    raise _errors.scores_needed('owl', path, score)
  _checks.check_floating('owl', 'scores', path, score)
  _checks.check_no_nan('owl', 'scores', path, score)


def _namer(groups: Any) -> Callable[[str], Any]:
  """Path to what tells a leaf's group from others."""
  alone = lambda path: (path,)
  if groups is None:
    return alone
  if isinstance(groups, (str, re.Pattern)):
    try:
      pattern = re.compile(groups)
    except re.error as error:
      raise _checks.bad_group_regex('owl', groups, str(error)) from None
    if pattern.groups != 1:
      raise _checks.bad_group_regex('owl', groups, f'{pattern.groups} groups')
    found = lambda path: (match := pattern.search(path)) and match.group(1)
  elif callable(groups):
    found = groups
  else:
    raise _checks.bad_groups('owl', groups)

  def name(path: str) -> Any:
    group = found(path)
    if group is not None and not isinstance(group, (str, int)):
      raise _checks.bad_group('owl', path, group)
    return alone(path) if group is None else group

  return name


def _outliers(scores: list[jax.Array], times: float) -> float:
  """Fraction of the scores, of all leaves together, that exceed ``times`` their mean."""
  size = sum(tree.size(x) for x in scores)
  peak = max(float(_peak(x)) for x in scores)
  scale = peak if 0 < peak < math.inf else 1.0  # no sum overflows
  total = math.fsum(
    float(_hosts.whole(_row_sums(x, scale)).astype(np.float64).sum()) for x in scores
  )
  limit = np.float32(times * total / size)
  return sum(int(_hosts.whole(_above(x, scale, limit)).sum(dtype=np.int64)) for x in scores) / size


@jax.jit
def _peak(x: jax.Array) -> jax.Array:
  return jnp.max(jnp.abs(x.astype(jnp.float32)))


@jax.jit
def _row_sums(x: jax.Array, scale: float) -> jax.Array:
  rows = jnp.atleast_1d(x).astype(jnp.float32) / jnp.float32(scale)
  return jnp.sum(rows, axis=-1)


@jax.jit
def _above(x: jax.Array, scale: float, limit: jax.Array) -> jax.Array:
  """How many of each row; their number fits 32 bits, the sum over rows need not."""
  rows = jnp.atleast_1d(x).astype(jnp.float32) / jnp.float32(scale)
  return jnp.sum(rows > limit, axis=-1, dtype=jnp.uint32)


def _solve(ratios: list[float], sizes: list[int], spread: float, overall: float) -> list[float]:
  """Sparsities that fall with the ratios by up to ``spread`` and average to ``overall``."""
  if not ratios:
    return []
  least, most = min(ratios), max(ratios)
  if least == most or overall in (0.0, 1.0):
    return [overall] * len(ratios)
  offsets = [-spread * (ratio - least) / (most - least) for ratio in ratios]
  total = sum(sizes)
  held = lambda shift: [min(1.0, max(0.0, overall + x + shift)) for x in offsets]
  mean = lambda xs: math.fsum(size * x for size, x in zip(sizes, xs)) / total
  shift = -mean(offsets)
  if all(0.0 <= overall + x + shift <= 1.0 for x in offsets):
    return held(shift)
  low, high = -1.0 - spread, 1.0 + spread  # the mean grows with the shift, from 0 to 1
  for _ in range(100):
    shift = (low + high) / 2
    low, high = (shift, high) if mean(held(shift)) < overall else (low, shift)
  return held(high)
