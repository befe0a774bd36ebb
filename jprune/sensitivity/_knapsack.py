"""One option for each group: the least loss at which the counts add up to a need.

Dynamic programming over groups. A state is the count and the loss of a choice for the groups so
far; one that counts no more and loses no less than another is dropped. What makes it fast is the
bound: filling the rest with fractions of options gives the least loss that a state can still reach,
and a state that can't beat the best whole choice found so far is dropped too.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MOST_STATES = 2**15


class Solution(NamedTuple):
  """A choice.

  Attributes:
    choice: for each group the place of its option.
    loss: sum of the losses, added up in the order of the groups.
    bound: no choice that meets the need has a smaller sum; equal to ``loss`` if nothing was given
      up, up to rounding.
    exact: whether nothing was given up.
  """

  choice: tuple[int, ...]
  loss: float
  bound: float
  exact: bool


class _Group(NamedTuple):
  """The options that can be best, by rising count and loss; and the corners of their hull."""

  places: list[int]
  counts: np.ndarray
  losses: np.ndarray
  hull: list[int]  # places among these options


class _Rest:
  """The groups from one on, their options mixed freely: the least loss for a count."""

  def __init__(self, groups: Sequence[_Group], first: int) -> None:
    rest = range(first, len(groups))
    steps = []
    for i in rest:
      counts, losses, hull = groups[i].counts, groups[i].losses, groups[i].hull
      for a, b in itertools.pairwise(hull):
        gain, cost = int(counts[b] - counts[a]), float(losses[b] - losses[a])
        steps.append((cost / gain, i, b, gain, cost))
    self.steps = sorted(steps)  # within a group slopes rise, so corners come in order
    self.first = first
    self._count = sum(int(groups[i].counts[0]) for i in rest)
    self._loss = sum(float(groups[i].losses[0]) for i in rest)
    gains = np.array([0, *(step[3] for step in self.steps)], np.int64)
    self._counts = np.cumsum(gains).astype(np.float64)
    self._losses = np.cumsum([0.0, *(step[4] for step in self.steps)])

  def bound(self, need: np.ndarray) -> np.ndarray:
    """The least loss for at least so much; infinite where all of it doesn't suffice."""
    missing = (need - self._count).astype(np.float64)
    found = self._loss + np.interp(missing, self._counts, self._losses)
    return np.where(missing > self._counts[-1], np.inf, found)

  def filled(self, groups: Sequence[_Group], need: int) -> list[int]:
    """Whole options along the same way, which suffice: the last step is taken whole."""
    chosen = [0] * (len(groups) - self.first)
    missing = need - self._count
    for _, i, option, gain, _ in self.steps:
      if missing <= 0:
        break
      chosen[i - self.first] = option
      missing -= gain
    return chosen


def solve(
  counts: Sequence[Sequence[int]],
  losses: Sequence[Sequence[float]],
  need: int,
  most_states: int = MOST_STATES,
) -> Solution:
  """The choice with the least loss among those that count at least ``need``.

  Args:
    counts: for each group the count of each option; below 2**62 in all.
    losses: likewise, finite.
    need: what the counts of a choice must add up to; the largest ones together suffice.
    most_states: how many states are kept. If there are more, those with the best bounds stay; the
      solution then may not be the best one, and its ``bound`` says by how much at most.

  Returns:
    A :class:`Solution`.
  """
  groups = [_group(c, x) for c, x in zip(counts, losses)]
  rests = [_Rest(groups, first) for first in range(len(groups) + 1)]
  search = _Search(groups, rests, need, most_states)
  for k in range(len(groups)):
    search.step(k)
  return search.solution()


class _Search:
  """The states, and the best whole choice so far."""

  def __init__(
    self, groups: Sequence[_Group], rests: Sequence[_Rest], need: int, most_states: int
  ) -> None:
    self._groups, self._rests, self._need, self._most = groups, rests, need, most_states
    self._counts, self._losses = np.zeros(1, np.int64), np.zeros(1)
    self._parents: list[tuple[np.ndarray, np.ndarray]] = []
    self._given_up = np.inf
    # sums in another order differ in the last digits; a state is never dropped for those
    self._slack = 1e-12 * (1.0 + sum(float(np.abs(g.losses).max()) for g in groups))
    self._best, self._chosen = np.inf, []
    self._complete(0, 0)

  def step(self, k: int) -> None:
    """Takes group k in."""
    group, rest = self._groups[k], self._rests[k + 1]
    options = len(group.places)
    counts = (self._counts[:, None] + group.counts).reshape(-1)
    losses = (self._losses[:, None] + group.losses).reshape(-1)
    bounds = losses + rest.bound(self._need - counts)
    keep = np.flatnonzero(bounds <= self._best + self._slack)
    keep = keep[_undominated(np.minimum(counts[keep], self._need), losses[keep])]
    if len(keep) > self._most:
      order = np.argsort(bounds[keep], kind='stable')
      self._given_up = min(self._given_up, float(bounds[keep[order[self._most]]]))
      keep = np.sort(keep[order[: self._most]])
    self._counts, self._losses = counts[keep], losses[keep]
    self._parents.append((keep // options, keep % options))
    if len(keep):
      self._complete(k + 1, int(np.argmin(bounds[keep])))

  def _complete(self, k: int, state: int) -> None:
    """Fills a state up greedily: whether that is the best whole choice so far."""
    chosen = self._rests[k].filled(self._groups, self._need - int(self._counts[state]))
    loss = float(self._losses[state])
    for group, option in zip(self._groups[k:], chosen):
      loss += float(group.losses[option])
    if loss < self._best:
      self._best, self._chosen = loss, [*self._path(k, state), *chosen]

  def _path(self, k: int, state: int) -> list[int]:
    path = []
    for parents, options in reversed(self._parents[:k]):
      path.append(int(options[state]))
      state = int(parents[state])
    return path[::-1]

  def solution(self) -> Solution:
    enough = np.flatnonzero(self._counts >= self._need)
    if len(enough):
      last = enough[np.argmin(self._losses[enough])]
      if self._losses[last] <= self._best:
        self._best = float(self._losses[last])
        self._chosen = self._path(len(self._groups), int(last))
    choice = tuple(group.places[option] for group, option in zip(self._groups, self._chosen))
    exact = self._given_up >= self._best
    return Solution(choice, self._best, min(self._best, self._given_up), bool(exact))


def _group(counts: Sequence[int], losses: Sequence[float]) -> _Group:
  order = sorted(range(len(counts)), key=lambda j: (-counts[j], losses[j]))
  places: list[int] = []
  for j in order:
    if not places or losses[j] < losses[places[-1]]:
      places.append(j)
  places.reverse()
  held = np.array([counts[j] for j in places], np.int64)
  lost = np.array([losses[j] for j in places], np.float64)
  return _Group(places, held, lost, _hull(held.tolist(), lost.tolist()))


def _hull(counts: list[int], losses: list[float]) -> list[int]:
  """Corners of the lower convex hull."""
  hull: list[int] = []
  for j in range(len(counts)):
    while len(hull) > 1 and _above(counts, losses, hull[-2], hull[-1], j):
      hull.pop()
    hull.append(j)
  return hull


def _above(counts: list[int], losses: list[float], a: int, b: int, c: int) -> bool:
  """Whether b lies on or above the line from a to c."""
  return (losses[b] - losses[a]) * (counts[c] - counts[a]) >= (losses[c] - losses[a]) * (
    counts[b] - counts[a]
  )


def _undominated(counts: np.ndarray, losses: np.ndarray) -> np.ndarray:
  """Places of what nothing else is as good as, by rising count."""
  order = np.lexsort((losses, -counts))
  lost = losses[order]
  least = np.minimum.accumulate(lost)
  first = np.ones(len(order), bool)
  first[1:] = lost[1:] < least[:-1]
  return order[first][::-1]
