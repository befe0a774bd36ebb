"""Masks of whole channels: the units of channel groups, scored over all of their members."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune._entry import public
from jprune.masks import _errors
from jprune.masks._auto import following
from jprune.masks._channels import compete as _compete
from jprune.masks._channels import part as _part
from jprune.masks._channels import slices as _slices
from jprune.masks._channels import units as _units
from jprune.typing import Masks, Normalization, Reduction, Scope, Scores, Where

if TYPE_CHECKING:
  from jprune._roles import Roles
  from jprune.graph import ChannelGraph

_NAME = 'channels'


@public
def channels(
  scores: Scores,
  graph: ChannelGraph,
  sparsity: float | Mapping[str, float] | None = None,
  *,
  scope: Scope = 'local',
  round_to: int = 1,
  min_keep: int = 1,
  where: Where = None,
  keep: Where = None,
  roles: Roles | None = None,
  reduce: Reduction | Callable[[jax.Array], jax.Array] = 'mean',
  normalize: Normalization | None = 'mean',
  target_params: float | None = None,
  target_macs: float | None = None,
) -> Masks:
  r"""Prunes the lowest-scoring units of channel groups, each unit in all of its members at once.

  A group of ``graph`` is a set of channels that can only go together: a kernel's outputs, its
  bias and norm, the inputs of the next kernel. A unit's score is made from the scores of all of
  its weights, in all members. Exactly ``round(sparsity * units)`` units are pruned, of each group
  or of all that compete, as far as ``min_keep`` and ``round_to`` allow; among equal scores the
  earlier group, and in it the lowest unit, is kept first. No group is ever emptied.

  Groups that are factors of one axis share what the axis may lose, so that about ``1 - sparsity``
  of its indices are left: of 32 channels under a GroupNorm of 8 groups, 16 stay at 0.5, not half of
  the groups and half of the channels in each. With :math:`k_g` of :math:`n_g` units kept, and the
  product over all factors of an axis (one that is there twice counts twice),

  .. math:: \prod_g \frac{k_g}{n_g} \approx 1 - s

  In local scope, units go one by one from the factor with the most units left, the smallest step,
  as long as that brings the product nearer to :math:`1 - s`. In other scopes a group that would
  keep :math:`k_g` units by itself keeps :math:`n_g (k_g / n_g)^{e_g}`, rounded; the :math:`e_g` of
  the factors of an axis are equal and add up to 1 (:math:`1/2` each for two), so what is left of
  the axis is the geometric mean of what each would leave. Axes of their own, as heads and head dims
  of a kernel ``(inputs, heads, dims)``, share nothing, nor do the segments of a concatenation. The
  plan of a shrunk function says what is left of shared axes.

  ================  ==============================================================================
  L1                ``channels(scores.magnitude(params), graph, 0.5)``
  L2                ``channels(scores.magnitude(params), graph, 0.5, reduce='l2')``
  FPGM              ``channels(scores.geometric_median(params), graph, 0.5, where='kernel')``
  BatchNorm scale   ``channels(scores.magnitude(params), graph, 0.5, scope='global',
                    normalize=None, where=r'BatchNorm_\d+/scale')``
  Taylor            ``channels(scores.taylor(params, grads), graph, 0.5, reduce='sum')``
  Random            ``channels(scores.random(params, key=key), graph, 0.5)``
  ================  ==============================================================================

  Args:
    scores: tree with the structure of the params that ``graph`` was made of, higher = keep.
      ``None`` and leaves that aren't floating add nothing to any unit.
    graph: what :func:`jprune.graph.channels` found.
    sparsity: fraction of the units to prune, in [0, 1], a Python number, not traced; or a dict of
      groups, each with a fraction that is its own in every scope. Keys are the names of groups, or
      members of them: ``'path[axis]'``, which means all groups of that axis together, or
      ``'path[axis] position'``. Groups that are left out stay as they are; unless there is a key
      ``'*'``, whose fraction is that of all others, or a target, which they then meet.
    scope: who competes. ``'local'``: each group by itself. ``'global'``: the units of all groups.
      ``'isomorphic'``: the units of groups of like structure, whose members have the same last
      path keys, axes and numbers of dimensions, whatever their sizes.
    round_to: the number of units that a pruned group keeps is a multiple of this: the nearest one,
      of two the larger. A group that loses nothing anyway stays as it is.
    min_keep: each group keeps at least so many units.
    where: the members whose scores count, as a filter of leaves, as for :func:`jprune.prune`: a
      regular expression narrows the default; for the scales of norms say
      ``lambda path, leaf: path.endswith('scale')``. A group without such a member stays as it is,
      and so does a group whose channels are made by a kernel that it leaves out, if that has
      scores, ``where`` selects any kernels, and no dict asks for the group by its name. (Biases,
      norms, and the next layer, which reads the channels, need not be selected.)
      By default kernels count: those of ``roles``, or as names tell; for a group that has none,
      all of its floating members.
    keep: leaves that stay whole, as a filter like ``where``: a group with a member in one of them
      is not pruned, in any scope, for any target. ``graph.keeping(keep)`` shows which these are.
    roles: what :func:`jprune.graph.roles` found, to know kernels by.
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
      selected member; if the graph has no groups or ``where`` and ``keep`` leave none, ``where`` or
      ``keep`` names no leaf, a sparsity or target is out of range, a target can't be reached, or a
      word or a group's name is unknown.
    TypeError: if not exactly one of ``sparsity``, ``target_params``, ``target_macs`` is given (or a
      dict with a target), or a target with traced scores, or complex scores.

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
  part = _part.taking_part(_NAME, scores, graph, sparsity, target, where, keep, roles)
  found, leaves = part.found, part.leaves
  groups = [graph.groups[i] for i in part.places]
  race = _compete.field(groups, scope, round_to, min_keep, graph.leaves, part.named)
  normalize = None if scope == 'local' else normalize
  traced = tree.is_traced(*leaves.values())
  if traced and target:
    raise _errors.target_needs_values(_NAME, target, given[target])

  def ranked(leaves: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
    vectors = _units.unit_scores(_NAME, groups, leaves, reduce, normalize, xp)
    return _compete.ranked(race, vectors, xp)

  if traced:
    asked = race.asked(part.sparsity)
    _report(race, groups, asked, round_to, min_keep)
    return _traced_masks(graph, groups, race, asked, found, leaves, ranked)
  rank, place = ranked(leaves, np)
  if target:
    asked = _asked_for(graph, part.places, race, rank, place, target, given[target])
  else:
    asked = race.asked(part.sparsity)
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
) -> str | None:
  """The target, if one is to be met, once all arguments are known to be good."""
  named = [name for name, value in given.items() if value is not None]
  by_name = isinstance(given['sparsity'], Mapping)
  _checks.check_one_target(_NAME, named, list(given), by_name)
  _checks.check_choice(_NAME, 'scope', scope, get_args(Scope))
  _checks.check_choice(_NAME, 'normalize', normalize, (None, *get_args(Normalization)))
  if not callable(reduce) and not (isinstance(reduce, str) and reduce in get_args(Reduction)):
    raise _errors.bad_reduction(_NAME, reduce, get_args(Reduction))
  _checks.check_positive_int(_NAME, 'round_to', round_to)
  _checks.check_positive_int(_NAME, 'min_keep', min_keep)
  target = named[-1]
  if target != 'sparsity':
    _checks.static_fraction(_NAME, target, given[target])
    _errors.check_target(_NAME, target, given[target])
    return target
  if not by_name:
    _checks.static_fraction(_NAME, target, given[target])
  return None


# -------------------------------------------------------------------------------- how many go


def _asked_for(
  graph: ChannelGraph,
  taking_part: Sequence[int],
  race: Any,
  rank: Any,
  place: Any,
  target: str,
  value: Any,
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

  goal, least = float(value) * dense, left(_compete.all_asked(race))
  if least > goal:
    raise _errors.out_of_reach(_NAME, target, float(value), least / dense)
  return _compete.least_asked(race, left, goal)


def _report(
  race: Any, groups: Sequence[Any], asked: np.ndarray, round_to: int, min_keep: int
) -> None:
  """Names the groups of which units were to go, but none may."""
  wanted = np.zeros(len(groups), bool)
  wanted[race.group_of] = asked[race.race_of] > 0
  stuck = [groups[i] for i in race.stuck if wanted[i]]
  if stuck:
    names, sizes = [group.name for group in stuck], [group.size for group in stuck]
    text = _errors.groups_left_dense(_NAME, names, sizes, round_to, min_keep)
    warnings.warn(text, UserWarning, stacklevel=4)


# ---------------------------------------------------------------------------------- under a trace


def _traced_masks(
  graph: ChannelGraph,
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
