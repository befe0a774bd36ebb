"""Which neurons may go for good, and what goes with them: all that belongs to a unit of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jprune._roles import HEADS, OUTPUTS, Roles
from jprune.masks import ChannelGroups
from jprune.masks._channels import slices as _slices
from jprune.tree._named_roles import roles_or_names
from jprune.tree._selected import matching_for
from jprune.typing import ByPath


class Unit(NamedTuple):
  """A channel group whose units may go.

  Attributes:
    group: of the graph.
    makers: its members along outputs of leaves that are pruned; a unit lives as long as one of
      these has a weight for it.
  """

  group: Any
  makers: list[Any]


class Ablation:
  """Which neurons may go.

  Args:
    function: who asks, for messages.
    ablate: what :func:`jprune.graph.channels` found; or what selects leaves, as in ``where=``, in
      which neurons go without anything else that belongs to them; or ``None`` for no neuron.
    shapes: of all leaves that may be asked for, by path.
    own: the paths of the leaves that are pruned.
    roles: as for :func:`jprune.prune`.
  """

  def __init__(
    self,
    function: str,
    ablate: Any,
    shapes: Mapping[str, tuple[int, ...]],
    own: Iterable[str],
    roles: Roles | None,
  ) -> None:
    self._function, self._ablate, self._own = function, ablate, set(own)
    self.units: list[Unit] = []
    self._prefix = ''
    if not hasattr(ablate, 'groups'):
      return
    self._prefix = ChannelGroups(ablate).prefix(list(shapes))
    known = roles_or_names(function, dict(shapes), roles)
    for group, readers in zip(ablate.groups, ablate.readers):
      members = [m for m in group.members if self._path(m) in shapes]
      made = [m for m in members if m.path not in readers and _is_output(known[self._path(m)], m)]
      others = (m for m in members if m.path not in readers and self._path(m) not in self._own)
      vectors = all(_is_vector(known[self._path(m)], shapes[self._path(m)]) for m in others)
      if made and vectors and len(members) == len(group.members):
        self.units.append(Unit(group, [m for m in made if self._path(m) in self._own]))

  def _path(self, member: Any) -> str:
    """The path of a member among the params."""
    return member.path.removeprefix(self._prefix)

  def members(self) -> set[str]:
    """The paths of all leaves that units have a part of."""
    return {self._path(m) for unit in self.units for m in unit.group.members}

  def leaves(self, weights: ByPath) -> list[bool]:
    """Of which of these leaves neurons may go."""
    if self._ablate is None:
      return [False] * len(weights)
    if not hasattr(self._ablate, 'groups'):
      return matching_for(self._function, 'ablate', weights, self._ablate)
    makers = {self._path(m) for unit in self.units for m in unit.makers}
    return [path in makers for path in weights]

  def lines(self, alive: ByPath, weights: ByPath) -> dict[str, jax.Array]:
    """What may be kept of leaves once units are gone that nothing makes any more.

    Args:
      alive: by path of leaves that are pruned, bools of their shapes: what belongs to neurons that
        stay.
      weights: all leaves that have masks, by path.
    """
    keeps = []
    for group, makers in self.units:
      keep = jnp.zeros(group.size, bool)
      for member in makers:
        mask = alive[self._path(member)]
        line = jnp.any(mask, axis=tuple(i for i in range(mask.ndim) if i != member.axis))
        inside = np.flatnonzero(member.position.units >= 0)
        keep = keep.at[member.position.units[inside]].max(line[inside])
      keeps.append(keep)
    lines = _slices.lines_of([unit.group for unit in self.units], keeps, jnp)
    return {
      path: _slices.whole(lines.get(self._prefix + path, {}), w.shape, jnp)
      for path, w in weights.items()
    }


def _is_output(role: Any, member: Any) -> bool:
  """Whether a member lies along outputs of a kernel."""
  if role is None or role.kind != 'kernel':
    return False
  if not role.known:
    return member.axis == len(role.shape) - 1
  along = [factor for factor in role.factors if factor.axis == member.axis]
  return any(factor.word in (OUTPUTS, HEADS) and not factor.contracted for factor in along)


def _is_vector(role: Any, shape: tuple[int, ...]) -> bool:
  """Whether a leaf only scales or shifts what others make."""
  return role.kind == 'vector' if role is not None else sum(n > 1 for n in shape) < 2
