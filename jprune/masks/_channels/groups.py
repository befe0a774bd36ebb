"""Channel groups as a pattern: units that go together across leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune.masks._auto import following
from jprune.masks._channels import compete as _compete
from jprune.masks._channels import part as _part
from jprune.masks._channels import slices as _slices
from jprune.masks._channels import units as _units
from jprune.masks._pack import PackedMask, unpack_leaf
from jprune.typing import ByPath, Masks, Normalization, Reduction, Scope, Scores, Where

if TYPE_CHECKING:
  from jprune._roles import Roles
  from jprune.graph import ChannelGraph


@dataclasses.dataclass(frozen=True)
class ChannelGroups:
  """The units of channel groups: slices of all members of a group, which can only go together.

  For :func:`jprune.prune` and all methods of :mod:`jprune.transforms` the same choice as
  :func:`jprune.masks.channels` makes, so that what is pruned in training can be shrunk afterwards.

  Attributes:
    graph: what :func:`jprune.graph.channels` found, of a function of the params; or of variables
      with these params under one key, such as ``{'params': ..., 'batch_stats': ...}``.
    scope: who competes, as for :func:`jprune.masks.channels`.
    round_to: what the number of units that a group keeps is a multiple of.
    min_keep: each group keeps at least so many units.
    keep: leaves that stay whole.
    reduce: how the scores of a unit's weights become one.
    normalize: what the scores of each group are divided by before groups compete.

  Examples:
    >>> fn = lambda p, x: jax.nn.relu(x @ p['in']) @ p['out']
    >>> params = {'in': jnp.array([[1.0, -3.0, 0.1, 2.0]]), 'out': jnp.ones((4, 1))}
    >>> groups = ChannelGroups(jprune.graph.channels(fn, params, jnp.ones((2, 1))))
    >>> jprune.prune(params, 0.5, pattern=groups)['in']
    Array([[False,  True, False,  True]], dtype=bool)
  """

  graph: ChannelGraph
  scope: Scope = 'local'
  round_to: int = 1
  min_keep: int = 1
  keep: Where = None
  reduce: Reduction | Callable[[jax.Array], jax.Array] = 'mean'
  normalize: Normalization | None = 'mean'

  def prefix(self, paths: Any) -> str:
    """What the graph puts before the paths of these params."""
    known = set(self.graph.leaves)
    heads = ['', *dict.fromkeys(f'{path.partition("/")[0]}/' for path in known)]
    return next((head for head in heads if all(head + path in known for path in paths)), '')

  def members(self, paths: Any) -> list[str]:
    """Which of these paths are leaves of groups."""
    prefix = self.prefix(paths)
    own = {path for group in self.graph.groups for path in _part.paths_of(group)}
    return [path for path in paths if prefix + path in own]

  def complete(self, masks: Masks) -> Masks:
    """Masks for all leaves of the graph, from those of the params alone.

    Where a function of variables has statistics beside its params, as BatchNorm has, an optimizer
    knows nothing of these. They follow: of units that are gone from all params, they go as well.

    Args:
      masks: along the params, as :func:`jprune.transforms.masks_of` has them.

    Returns:
      Masks along all that the graph was made of, for :func:`jprune.shrink` and
      :func:`jprune.apply`; those of the params as they are.

    Raises:
      ValueError: if the masks are of other leaves than those of the graph.

    Examples:
      >>> def fn(variables, x):
      ...   params, stats = variables['params'], variables['stats']
      ...   h = (x @ params['in'] - stats[None]) * params['scale'][None]
      ...   return jax.nn.relu(h) @ params['out']
      >>> params = {'in': jnp.ones((1, 3)), 'scale': jnp.ones(3), 'out': jnp.ones((3, 1))}
      >>> variables = {'params': params, 'stats': jnp.zeros(3)}
      >>> graph = jprune.graph.channels(fn, variables, jnp.ones((2, 1)))
      >>> gone = jnp.array([True, False, True])
      >>> masks = {'in': gone[None], 'scale': gone, 'out': gone[:, None]}
      >>> ChannelGroups(graph).complete(masks)['stats']
      Array([ True, False,  True], dtype=bool)
    """
    given = leaves_by_path(masks)
    prefix = self.prefix(given)
    if unknown := [path for path in given if prefix + path not in self.graph.leaves]:
      raise _checks.masks_of_no_leaves('complete', unknown)
    concrete = {path: mask for path, mask in given.items() if mask is not None}
    keeps = []
    for group in self.graph.groups:
      keep = np.zeros(group.size, bool)
      own = [m for m in group.members if m.path.removeprefix(prefix) in concrete]
      for member in own:
        mask = np.asarray(concrete[member.path.removeprefix(prefix)])
        line = np.asarray(mask.any(axis=tuple(i for i in range(mask.ndim) if i != member.axis)))
        inside = np.flatnonzero(member.position.units >= 0)
        keep[member.position.units[inside]] |= line[inside]
      keeps.append(keep | (not own))
    lines = _slices.lines_of(self.graph.groups, keeps, np)
    out = []
    for path, leaf in self.graph.leaves.items():
      mine = path.removeprefix(prefix)
      if path.startswith(prefix) and mine in given:
        out.append(given[mine])
        continue
      mask = _slices.whole(lines.get(path, {}), leaf.shape, np)
      out.append(None if mask.all() else jnp.asarray(mask))
    return self.graph.treedef.unflatten(out)

  def check(self, function: str, path: str, shape: tuple[int, ...]) -> None:
    """Fits the leaves of its graph, whatever their shapes."""

  def counts(
    self, function: str, scored: ByPath, sparsity: float, roles: Roles | None
  ) -> np.ndarray:
    """How many units of each race are kept: ints; of groups that share an axis, how many steps."""
    _, race = self._field(function, scored, roles)
    return _steps(race) - race.asked(sparsity)

  def best(
    self,
    function: str,
    scored: ByPath,
    kept: Any,
    roles: Roles | None,
    among: ByPath | None = None,
    first: ByPath | None = None,
  ) -> dict[str, jax.Array]:
    """Masks by path of all members among the scored paths.

    Args:
      function: who asks, for messages.
      scored: scores by path, ``None`` where a leaf has none.
      kept: as :meth:`counts` has it, ``(races,)``.
      roles: to know kernels by.
      among: masks by path; units that are gone there stay so.
      first: masks by path; units that are there come first.
    """
    part, race = self._field(function, scored, roles)
    groups = [self.graph.groups[i] for i in part.places]
    prefix = self.prefix(scored)
    taking = {path for group in groups for path in _part.paths_of(group)}
    paths = [path for path in scored if prefix + path in taking]
    like = [x for x in part.found if x is not None]
    shape = lambda path: tuple(self.graph.leaves[prefix + path].shape)
    xs = [
      _slices.nothing_to_follow(shape(path), like) if scored[path] is None else scored[path]
      for path in paths
    ]
    asked = _steps(race) - kept

    def run(xs: list[jax.Array], among: Any, first: Any) -> list[jax.Array]:
      given = {prefix + path: x for path, x in zip(paths, xs)}
      held = {path: given[path] for path in part.leaves}
      normalize = None if self.scope == 'local' else self.normalize
      vectors = _units.unit_scores(function, groups, held, self.reduce, normalize, jnp)
      for masks, infinite in ((among, -jnp.inf), (first, jnp.inf)):
        if masks is not None:
          alive = [_alive(group, prefix, masks) for group in groups]
          there = alive if infinite < 0 else [~each for each in alive]
          vectors = [jnp.where(yes, v, infinite) for yes, v in zip(there, vectors)]
      rank, place = _compete.ranked(race, vectors, jnp)
      keeps = _compete.survivors(race, rank, _compete.kept_counts(race, place, asked, jnp))
      lines = _slices.lines_of(groups, keeps, jnp)
      return [_slices.whole(lines[prefix + p], x.shape, jnp) for p, x in zip(paths, xs)]

    return dict(zip(paths, following(run, xs, among, first)))

  def _field(self, function: str, scored: ByPath, roles: Roles | None) -> tuple[Any, Any]:
    prefix = self.prefix(scored)
    given = [scored.get(path.removeprefix(prefix)) for path in self.graph.leaves]
    scores: Scores = self.graph.treedef.unflatten(given)
    part = _part.taking_part(function, scores, self.graph, 0.0, None, None, self.keep, roles)
    groups = [self.graph.groups[i] for i in part.places]
    leaves = self.graph.leaves
    return part, _compete.field(
      groups, self.scope, self.round_to, self.min_keep, leaves, part.named
    )


def leaves_by_path(tree_of: Any) -> dict[str, Any]:
  """Leaves by path, ``None`` included; masks unpacked."""
  is_leaf = lambda leaf: leaf is None or isinstance(leaf, PackedMask)
  paths, leaves, _ = tree.flatten(tree_of, is_leaf=is_leaf)
  return {
    path: unpack_leaf(leaf) if isinstance(leaf, PackedMask) else leaf
    for path, leaf in zip(paths, leaves)
  }


def _steps(race: Any) -> np.ndarray:
  """The most that each race can be asked for."""
  out = race.totals.copy()
  for r, (_, path) in race.paths.items():
    out[r] = len(path.levels)
  return out


def _alive(group: Any, prefix: str, masks: ByPath) -> jax.Array:
  """Which units of a group masks keep something of."""
  for member in group.members:
    path = member.path.removeprefix(prefix)
    mask = masks.get(path) if member.path.startswith(prefix) else None
    if mask is None:
      continue
    others = tuple(i for i in range(mask.ndim) if i != member.axis)
    line = jnp.any(mask, axis=others)
    units = member.position.units
    inside = np.flatnonzero(units >= 0)
    return jnp.zeros(group.size, bool).at[units[inside]].max(line[inside])
  return jnp.ones(group.size, bool)
