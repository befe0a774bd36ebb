"""One group pruned at a time, at one sparsity after the other."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jprune import _checks, _hosts, scores, tree
from jprune._batches import shown
from jprune._entry import public
from jprune._signature import readable
from jprune.graph import ChannelGraph
from jprune.masks import Unstructured
from jprune.sensitivity import _errors
from jprune.sensitivity._groups import PruningGroup, channel_groups, leaf_groups
from jprune.sensitivity._measure import EVALUATE, Masked, check_params, measured
from jprune.sensitivity._record import Table, described, fingerprint, name_of
from jprune.sensitivity._scored import called, scores_of
from jprune.sensitivity._sensitivity import Curve, Sensitivity
from jprune.tree._along import along_for
from jprune.tree._selected import selected_for
from jprune.typing import Params, Pattern, Scorer, Scores, Where

_NAME = 'curves'
_TENTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@readable
@public
def curves(
  evaluate: Callable[[Params], float],
  params: Params,
  sparsities: Sequence[float] = _TENTHS,
  *,
  scorer: Scorer | Scores = scores.magnitude,
  where: Where = None,
  pattern: Pattern = Unstructured(),
  groups: str | Callable[[str], str | None] | None = None,
  graph: ChannelGraph | None = None,
  table: str | os.PathLike[str] | None = None,
  progress: bool = True,
) -> Sensitivity:
  r"""Measures how the metric falls as each leaf, or group of leaves, is pruned alone.

  Scores are computed once. ``evaluate`` is called once for the dense params, and once for every
  group and every sparsity above 0; always with params of the same structure, shapes and dtypes, so
  that what it compiles, it compiles once. Of params that span processes all make the same call; the
  metric is what the first process finds, and it alone reads and writes the table.

  Args:
    evaluate: ``evaluate(params) -> float`` on validation data, higher = better: an accuracy, or
      the negative of a loss. Compile it with ``jax.jit`` inside. It must not donate the params.
    params: tree of arrays.
    sparsities: fractions of zeros in [0, 1]; sorted, and each measured once.
    scorer: ``scorer(params) -> scores``, higher = keep; or the scores themselves. Bind further
      arguments (``key``, ``stats``) with ``functools.partial``.
    where: selects leaves, as for :func:`jprune.prune`; with a graph, which members are scored, as
      for :func:`jprune.masks.channels`.
    pattern: which weights live and die together; not :class:`~jprune.masks.NOfM`.
    groups: which leaves are pruned together, each at the same sparsity: a function from leaf path
      to the name of a group, or a regular expression that is searched for in the path, whose only
      group matches the name, as in ``r'(layers_\d+)/'``. Leaves for which there is none are by
      themselves, as all are by default.
    graph: a :class:`jprune.graph.ChannelGraph`: then each of its groups is pruned, whole channels
      at a time. No group is ever emptied, so that the highest sparsities may be out of reach; the
      numbers of channels pruned are in the result.
    table: a file to which each point is added as it is finished, as a line of JSON. If it exists,
      its points are not measured anew. A table is of one run: of the params' values, the scores'
      values, sparsities, pattern and groups, and the name of ``evaluate``; what ``evaluate`` does
      and its data are not known by it.
    progress: whether to show a bar, in terminals and notebooks, if it takes long.

  Returns:
    A :class:`Sensitivity`: ``print`` it, ``.plot()`` it, or pass it to :func:`allocate`.

  Raises:
    ValueError: if there are no sparsities or one is outside [0, 1], nothing is selected, the
      pattern doesn't fit, ``evaluate`` returns no finite number, or the table is of another run or
      damaged.
    TypeError: if a selected leaf is not floating or traced, or a scorer needs further arguments.

  Examples:
    >>> params = {'a': jnp.array([[3.0, 1.0]] * 2), 'b': jnp.array([[2.0, 0.5]] * 2)}
    >>> evaluate = lambda params: (params['a'] + params['b']).sum() / 2
    >>> print(curves(evaluate, params, [0.0, 0.5, 1.0]))
    group  weights  0.00%  50.00%  100.00%  mean drop
    -------------------------------------------------
    a            4    6.5     5.5      2.5      1.667
    b            4    6.5       6        4          1
    <BLANKLINE>
    Metric by sparsity, each group pruned alone; 6.5 dense.
  """
  _errors.check_called(_NAME, 'evaluate', evaluate, EVALUATE)
  points = _errors.as_sparsities(_NAME, sparsities)
  check_params(_NAME, params)
  found, scored = _groups(params, scorer, where, pattern, groups, graph)
  masked = Masked(params, _touched(params, found))
  kind = 'channels' if graph is not None else repr(pattern)
  header = functools.partial(_header, params, found, scored, kind, points, evaluate)
  sizes, together = {group.name: group.sizes for group in found}, _hosts.spans(params)
  record = Table(_NAME, table, header, sizes, points, together)
  if ('', 0.0) not in record.points:
    record.add('', 0.0, measured(_NAME, evaluate, masked({}), 'of the dense params'), {})
  _measure(evaluate, masked, found, points, record, progress)
  baseline = record.points['', 0.0][0]
  return Sensitivity(
    tuple(_curve(group, points, baseline, record) for group in found),
    points,
    baseline,
    sum(tree.size(leaf) for leaf in tree.flatten(params)[1] if tree.is_array(leaf)),
    'weights' if graph is None else 'channels',
    repr(pattern) if graph is None else '',
    name_of(scorer),
  )


def _groups(
  params: Params, scorer: Any, where: Where, pattern: Any, groups: Any, graph: ChannelGraph | None
) -> tuple[list[PruningGroup], Any]:
  """What is pruned at a time; and the scores that count, as any tree."""
  if graph is None:
    scored = scores_of(_NAME, params, scorer, selected_for(_NAME, params, where))
    return leaf_groups(_NAME, params, scored, groups, pattern), scored
  if groups is not None:
    raise _errors.not_with_graph(_NAME, 'groups')
  if pattern != Unstructured():
    raise _errors.not_with_graph(_NAME, 'pattern')
  if not hasattr(graph, 'treedef'):
    raise _checks.bad_graph(_NAME, graph)
  paths, leaves, _ = tree.flatten(params)
  if not leaves:
    raise _checks.empty_tree(_NAME)
  for path, leaf, known in zip(
    paths,
    leaves,
    along_for(_NAME, 'graph', params, graph.treedef.unflatten(graph.leaves.values())),
  ):
    _checks.check_shape(_NAME, 'params', path, leaf, known.shape)
  # on the host once, if they can be, since each point scores its group anew
  found = along_for(_NAME, 'scorer', params, called(_NAME, params, scorer))
  held = [score if tree.is_floating(score) else None for score in found]
  held = [score if _hosts.spans(score) else _at_hand(score) for score in held]
  return channel_groups(graph.treedef.unflatten(held), graph, where)


def _at_hand(score: Any) -> np.ndarray | None:
  return None if score is None else np.asarray(score)


def _header(
  params: Params,
  groups: Sequence[PruningGroup],
  scored: Any,
  kind: str,
  points: Sequence[float],
  evaluate: Callable[[Params], Any],
) -> dict[str, Any]:
  """What a table holds points of. The scores decide what goes, whatever they were made from."""
  return {
    'params': fingerprint(params),
    'evaluate': described(evaluate),
    'sparsities': points,
    'pattern': kind,
    'groups': {group.name: group.known for group in groups},
    'scores': fingerprint(scored),
  }


def _touched(params: Params, groups: Sequence[PruningGroup]) -> list[bool]:
  touched = {path for group in groups for path in group.leaves}
  return [path in touched for path in tree.flatten(params)[0]]


def _measure(
  evaluate: Callable[[Params], float],
  masked: Masked,
  groups: Sequence[PruningGroup],
  points: Sequence[float],
  record: Table,
  progress: bool,
) -> None:
  """The points that are not yet on record."""
  todo = [
    (group, s) for group in groups for s in points if s and (group.name, s) not in record.points
  ]
  for group, sparsity in shown(_NAME, todo, progress, 'point'):
    masks, counts = group.prune(sparsity)
    when = f"of group '{group.name}' at sparsity {sparsity:g}"
    record.add(group.name, sparsity, measured(_NAME, evaluate, masked(masks), when), counts)


def _curve(group: PruningGroup, points: Sequence[float], baseline: float, record: Table) -> Curve:
  none = dict.fromkeys(group.sizes, 0)
  rows = [record.points[group.name, s] if s else (baseline, none) for s in points]
  pruned = {name: tuple(counts[name] for _, counts in rows) for name in group.sizes}
  return Curve(group.name, group.leaves, dict(group.sizes), pruned, tuple(m for m, _ in rows))
