"""Masks of whole channels: the units of channel groups, scored over all of their members."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune._entry import public
from jprune.masks import _compete, _slices, _units
from jprune.masks._auto import following
from jprune.typing import Masks, Scores, Where

_NAME = 'channels'


@public
def channels(
  scores: Scores,
  graph: Any,
  sparsity: float | Mapping[str, float] | None = None,
  *,
  scope: str = 'local',
  round_to: int = 1,
  min_keep: int = 1,
  where: Where = None,
  reduce: str | Callable[[jax.Array], jax.Array] = 'mean',
  normalize: str | None = 'mean',
  target_params: float | None = None,
  target_macs: float | None = None,
) -> Masks:
  r"""Prunes the lowest-scoring units of channel groups, each unit in all of its members at once.

  A group of ``graph`` is a set of channels that can only go together: a kernel's outputs, its
  bias and norm, the inputs of the next kernel. A unit's score is made from the scores of all of
  its weights, in all members. Exactly ``round(sparsity * units)`` units are pruned, of each group
  or of all that compete, as far as ``min_keep`` and ``round_to`` allow; among equal scores the
  earlier group, and in it the lowest unit, is kept first. No group is ever emptied.

  ================  ==============================================================================
  L1                ``channels(scores.magnitude(params), graph, 0.5)``
  L2                ``channels(scores.magnitude(params), graph, 0.5, reduce='l2')``
  FPGM              ``channels(scores.geometric_median(params), graph, 0.5, where='kernel')``
  BatchNorm scale   ``channels(scores.magnitude(params), graph, 0.5, scope='global',
                    normalize=None, where=r'BatchNorm_\d+/scale')``
  Taylor            ``channels(scores.taylor(params, grads), graph, 0.5, reduce='sum')``
  Random            ``channels(scores.random(params, key), graph, 0.5)``
  ================  ==============================================================================

  Args:
    scores: tree with the structure of the params that ``graph`` was made of, higher = keep.
      ``None`` and leaves that aren't floating add nothing to any unit.
    graph: what :func:`jprune.graph.channels` found.
    sparsity: fraction of the units to prune, in [0, 1]; or, for local scope, a dict from group
      name to fraction (groups that are left out stay as they are). A Python number, not traced.
    scope: who competes. ``'local'``: each group by itself. ``'global'``: the units of all groups.
      ``'isomorphic'``: the units of groups of like structure, whose members have the same last
      path keys, axes and numbers of dimensions, whatever their sizes.
    round_to: the number of units that a pruned group keeps is a multiple of this: the nearest one,
      of two the larger. A group that loses nothing anyway stays as it is.
    min_keep: each group keeps at least so many units.
    where: which members count, as a filter of leaves; a group without a selected member stays as
      it is. By default kernels, as for :func:`jprune.prune`; for a group that has none, all of its
      floating members. A regular expression narrows that default to kernels; for the scales of
      norms say ``lambda path, leaf: path.endswith('scale')``.
    reduce: how the weights of a unit, over all of its members, become its score: ``'mean'``,
      ``'sum'``, ``'max'``, ``'l2'``; or a function from the mean score of each member's weights,
      ``(members, units)``, to one number for each unit (NaN where a member has no weights of a
      unit).
    normalize: what the scores of each group are divided by before groups compete: the ``'mean'``
      or ``'max'`` of their absolute values; ``'gaussian'`` subtracts their mean and divides by
      their standard deviation; ``None`` leaves them. Local scope has no use for it.
    target_params: instead of a sparsity: the fraction of the model's params to keep, in (0, 1].
      The least pruning that gets there, in the order in which units go as the sparsity rises.
    target_macs: instead of a sparsity: the fraction of the model's multiply-adds to keep.

  Returns:
    Masks with the structure of the params; a bool array of the leaf's shape (``True`` = keep) for
    each member of a group that took part, ``None`` for all other leaves. A leaf of several groups
    keeps what all of them keep. Masks are sharded as the scores are.

  Raises:
    ValueError: if ``scores`` are of another structure or shape, NaN, or none of them belongs to a
      selected member; if the graph has no groups, a sparsity or target is out of range, a target
      can't be reached, or a word or a group's name is unknown.
    TypeError: if not exactly one of ``sparsity``, ``target_params``, ``target_macs`` is given, or a
      target with traced scores.

  Warns:
    UserWarning: if units of a group were to go, but ``round_to`` and ``min_keep`` let none.

  Examples:
    >>> fn = lambda p, x: jax.nn.relu(x @ p['in']) @ p['out']
    >>> params = {'in': jnp.array([[1.0, -3.0, 0.1, 2.0]]), 'out': jnp.ones((4, 1))}
    >>> graph = jprune.graph.channels(fn, params, jnp.ones((2, 1)))
    >>> masks = channels(jprune.scores.magnitude(params), graph, 0.5)
    >>> masks['in'], masks['out'].ravel()
    (Array([[False,  True, False,  True]], dtype=bool),
     Array([False,  True, False,  True], dtype=bool))

  References:
    Li et al., Pruning filters for efficient ConvNets, ICLR 2017, arXiv:1608.08710;
    Liu et al., Learning efficient convolutional networks through network slimming, ICCV 2017,
    arXiv:1708.06519; Fang et al., DepGraph, CVPR 2023, arXiv:2301.12900; Fang et al., Isomorphic
    pruning for vision models, ECCV 2024, arXiv:2407.04616
  """
  given = {'sparsity': sparsity, 'target_params': target_params, 'target_macs': target_macs}
  target = _checked(given, scope, round_to, min_keep, reduce, normalize)
  found, leaves = _scored(scores, graph, where)
  taking_part = _taking_part(graph, leaves, sparsity, scope)
  groups = [graph.groups[i] for i in taking_part]
  race = _compete.field(groups, scope, round_to, min_keep, graph.leaves)
  normalize = None if scope == 'local' else normalize
  traced = tree.is_traced(*leaves.values())
  if traced and sparsity is None:
    raise _checks.target_needs_values(_NAME, target, given[target])

  def ranked(leaves: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
    vectors = _units.unit_scores(_NAME, groups, leaves, reduce, normalize, xp)
    return _compete.ranked(race, vectors, xp)

  if traced:
    asked = _asked(race, groups, sparsity)
    _report(race, groups, asked, round_to, min_keep)
    return _traced_masks(graph, groups, race, asked, found, leaves, ranked)
  rank, place = ranked(leaves, np)
  if sparsity is None:
    asked = _asked_for(graph, taking_part, race, rank, place, target, given[target])
  else:
    asked = _asked(race, groups, sparsity)
  _report(race, groups, asked, round_to, min_keep)
  keeps = _compete.survivors(race, rank, _compete.kept_counts(race, place, asked, np))
  lines = _slices.lines_of(groups, keeps, np)
  return graph.treedef.unflatten(
    [
      _slices.placed_mask(lines[path], tuple(leaf.shape), score) if path in lines else None
      for (path, leaf), score in zip(graph.leaves.items(), found)
    ]
  )


# ----------------------------------------------------------------------------------- arguments


def _checked(
  given: Mapping[str, Any], scope: Any, round_to: Any, min_keep: Any, reduce: Any, normalize: Any
) -> str:
  """Which of ``given`` is to be met, once all arguments are known to be good."""
  named = [name for name, value in given.items() if value is not None]
  _checks.check_one_target(_NAME, named, list(given))
  _checks.check_choice(_NAME, 'scope', scope, _compete.SCOPES)
  _checks.check_choice(_NAME, 'normalize', normalize, _units.NORMALIZATIONS)
  if not callable(reduce) and not (isinstance(reduce, str) and reduce in _units.REDUCTIONS):
    raise _checks.bad_reduction(_NAME, reduce, _units.REDUCTIONS)
  _checks.check_positive_int(_NAME, 'round_to', round_to)
  _checks.check_positive_int(_NAME, 'min_keep', min_keep)
  value = given[named[0]]
  if not isinstance(value, Mapping) or named[0] != 'sparsity':
    _checks.static_fraction(_NAME, named[0], value)
    if named[0] != 'sparsity':
      _checks.check_target(_NAME, named[0], value)
  return named[0]


def _scored(scores: Scores, graph: Any, where: Where) -> tuple[list[Any], dict[str, Any]]:
  """The leaves of the scores along the params; and by path those that count, checked."""
  if not all(hasattr(graph, name) for name in ('groups', 'leaves', 'treedef')):
    raise _checks.bad_graph(_NAME, graph)
  if not graph.groups:
    raise _checks.no_groups(_NAME)
  params = graph.treedef.unflatten(graph.leaves.values())
  found = tree.along(_NAME, 'scores', params, scores)
  members = {member.path for group in graph.groups for member in group.members}
  if where is None:
    usual = _usual_members(graph)
    chosen = [path in usual for path in graph.leaves]
  else:
    chosen = tree.selected(_NAME, params, where)
  leaves = {}
  for (path, leaf), score, yes in zip(graph.leaves.items(), found, chosen, strict=True):
    if tree.is_floating(score):
      _checks.check_values(_NAME, path, score, 'scores')
      _checks.check_shape(_NAME, 'scores', path, score, leaf.shape)
      if yes and path in members:
        leaves[path] = score
  if not leaves:
    raise _checks.no_members_scored(_NAME)
  return found, leaves


def _usual_members(graph: Any) -> set[str]:
  """Kernels: what default ``where`` selects. All members of groups that have none of these."""
  why = tree.left_out(graph.treedef.unflatten(graph.leaves.values()))
  usual = {path for path, each in zip(graph.leaves, why, strict=True) if each is None}
  out = set()
  for group in graph.groups:
    paths = {member.path for member in group.members}
    out |= paths & usual or paths
  return out


def _taking_part(graph: Any, leaves: Mapping[str, Any], sparsity: Any, scope: str) -> list[int]:
  """Groups with a member that counts; of those, where a dict says which, the ones it names."""
  scored = [
    i for i, group in enumerate(graph.groups) if any(m.path in leaves for m in group.members)
  ]
  if not isinstance(sparsity, Mapping):
    return scored
  if scope != 'local':
    raise _checks.by_group_not_local(_NAME, scope)
  if not sparsity:
    raise _checks.no_group_sparsities(_NAME)
  names = [group.name for group in graph.groups]
  unknown = [name for name in sparsity if name not in set(names)]
  if unknown:
    raise _checks.unknown_groups(_NAME, unknown, names)
  for name, value in sparsity.items():
    _checks.static_fraction(_NAME, f'sparsity[{name!r}]', value)
  unscored = [name for name in sparsity if names.index(name) not in scored]
  if unscored:
    raise _checks.groups_not_scored(_NAME, unscored)
  return [i for i in scored if names[i] in sparsity]


# -------------------------------------------------------------------------------- how many go


def _asked(race: Any, groups: Sequence[Any], sparsity: Any) -> np.ndarray:
  """How many units of each race are to go."""
  if isinstance(sparsity, Mapping):
    return np.array([round(float(sparsity[group.name]) * group.size) for group in groups])
  return np.array([round(float(sparsity) * total) for total in race.totals.tolist()])


def _asked_for(
  graph: Any, taking_part: Sequence[int], race: Any, rank: Any, place: Any, target: str, value: Any
) -> np.ndarray:
  """How many units of each race have to go for a target to be met."""
  count = graph.params_at if target == 'target_params' else graph.macs_at
  dense = count(None)

  def left(asked: np.ndarray) -> int:
    kept = [np.ones(group.size, bool) for group in graph.groups]
    keeps = _compete.survivors(race, rank, _compete.kept_counts(race, place, asked, np))
    for i, keep in zip(taking_part, keeps):
      kept[i] = keep
    return count(kept)

  goal, least = float(value) * dense, left(race.totals)
  if least > goal:
    raise _checks.out_of_reach(_NAME, target, float(value), least / dense)
  return _compete.least_asked(race, left, goal)


def _report(
  race: Any, groups: Sequence[Any], asked: np.ndarray, round_to: int, min_keep: int
) -> None:
  """Names the groups of which units were to go, but none may."""
  if not race.stuck.any():
    return
  wanted = np.zeros(len(groups), bool)
  wanted[race.group_of] = asked[race.race_of] > 0
  stuck = [group for group, yes in zip(groups, race.stuck & wanted) if yes]
  if stuck:
    names, sizes = [group.name for group in stuck], [group.size for group in stuck]
    text = _checks.groups_left_dense(_NAME, names, sizes, round_to, min_keep)
    warnings.warn(text, UserWarning, stacklevel=4)


# ---------------------------------------------------------------------------------- under a trace


def _traced_masks(
  graph: Any,
  groups: Sequence[Any],
  race: Any,
  asked: np.ndarray,
  found: Sequence[Any],
  leaves: Mapping[str, Any],
  ranked: Callable[..., tuple[Any, Any]],
) -> Masks:
  """All of it under a trace, where masks can only be tied to their scores."""
  members = {member.path for group in groups for member in group.members}
  paths = [path for path in graph.leaves if path in members]
  shapes = [tuple(graph.leaves[path].shape) for path in paths]
  score_of = dict(zip(graph.leaves, found))
  scored = {path: jnp.asarray(s) for path, s in score_of.items() if tree.is_floating(s)}
  xs = [
    scored[path] if path in scored else _slices.nothing_to_follow(shape, scored.values())
    for path, shape in zip(paths, shapes)
  ]

  def run(xs: Sequence[jax.Array]) -> list[jax.Array]:
    held = {path: x for path, x in zip(paths, xs) if path in leaves}
    rank, place = ranked(held, jnp)
    keeps = _compete.survivors(race, rank, _compete.kept_counts(race, place, asked, jnp))
    lines = _slices.lines_of(groups, keeps, jnp)
    return [_slices.whole(lines[path], shape, jnp) for path, shape in zip(paths, shapes)]

  masks = dict(zip(paths, following(run, xs)))
  return graph.treedef.unflatten([masks.get(path) for path in graph.leaves])
