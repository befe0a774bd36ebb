"""How weights are to be chosen, as :func:`jprune.prune` and training are asked for it."""

from __future__ import annotations

from typing import Any, NamedTuple

from jprune import _checks, tree
from jprune._roles import Roles
from jprune.distributions._needs import needs_of
from jprune.masks import ChannelGroups, NOfM
from jprune.tree._selected import selected_for
from jprune.typing import Params, Where


class Asked(NamedTuple):
  """How weights are chosen; the arguments of :func:`jprune.prune` by these names."""

  distribution: Any
  pattern: Any
  roles: Roles | None = None
  min_keep: int = 0
  max_sparsity: float = 1.0
  per_output: bool = False

  def check(self, function: str) -> None:
    """Refuses what contradicts each other.

    Raises:
      ValueError: if the pattern goes with another distribution, or with no bounds.
      TypeError: if the distribution can't be called, or the pattern is none.
    """
    _checks.check_distribution(function, self.distribution)
    if not isinstance(self.pattern, ChannelGroups):
      _checks.check_pattern(function, self.pattern)
    alike = isinstance(self.pattern, (NOfM, ChannelGroups))
    if alike and not needs_of(self.distribution).shares_alike:
      raise _checks.pattern_shares_alike(function, self.pattern)
    _checks.check_measured_pattern(function, self.distribution, self.pattern)
    if alike and (self.min_keep or self.max_sparsity != 1.0):
      capped = ('min_keep', self.min_keep) if self.min_keep else ('max_sparsity', self.max_sparsity)
      raise _checks.pattern_capped(function, *capped, self.pattern)

  def selected(self, function: str, params: Params, where: Where) -> list[bool]:
    """Which leaves are pruned: what ``where`` selects, or all members of groups."""
    if not isinstance(self.pattern, ChannelGroups):
      return selected_for(function, params, where, self.roles)
    if where is not None and where is not self.roles:
      raise _checks.groups_select(function, where)
    paths = tree.flatten(params)[0]
    members = set(self.pattern.members(paths))
    if not members:
      raise _checks.masks_of_no_leaves(function, paths, 'params')
    return [path in members for path in paths]

  @property
  def together(self) -> bool:
    """Whether all weights compete for the same places."""
    return needs_of(self.distribution).one_threshold and not isinstance(self.pattern, NOfM)
