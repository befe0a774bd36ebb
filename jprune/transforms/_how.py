"""How weights are chosen: the selection and the scores of :func:`jprune.prune`, for methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jprune import tree
from jprune._asked import Asked
from jprune._selection import by_values, counts, masks_by, scores_by, stay_dense, takes
from jprune.masks._pack import unpack_leaf
from jprune.transforms import _errors
from jprune.transforms._along import Along
from jprune.transforms._mask_state import is_end, is_hole
from jprune.transforms._method import Method, Step, by_path, each, single
from jprune.typing import ByPath, Params


@dataclasses.dataclass(frozen=True)
class How:
  """How a method's weights are chosen.

  Attributes:
    method: who asks.
    scorer: as for :func:`jprune.prune`.
    asked: distribution, pattern, and so on.
    where: which leaves are pruned.
    key: the data of a random key and what makes one of them, or twice ``None``.
    final: the last sparsity.
  """

  method: Method
  scorer: Any
  asked: Asked
  where: Any
  key: tuple[Any, Any]
  final: float

  def leaves(self, params: Params) -> Any:
    """A tree like the params with something where a leaf gets a mask, ``None`` elsewhere."""
    own = self._own(params)
    if self.method.followers:
      own = own | set(self.method.followers(by_path(*tree.flatten(params)[:2]), own))
    paths, leaves, treedef = tree.flatten(params, is_end)
    out = []
    for path, leaf in zip(paths, leaves):
      ends = leaf is None or is_hole(leaf)
      out.append(leaf if ends else True if path in own else None)
    return treedef.unflatten(out)

  def _own(self, params: Params) -> set[str]:
    """The paths of the leaves that are selected, and that the distribution doesn't leave dense."""
    name, asked = self.method.name, self.asked
    paths, leaves, _ = tree.flatten(params)
    chosen = asked.selected(name, params, self.where)
    if by_values(asked):
      return {path for path, yes in zip(paths, chosen) if yes}
    whole = by_path(paths, leaves)
    scored = by_path(paths, [x if yes else None for x, yes in zip(leaves, chosen)])
    dense = stay_dense(name, whole, scored, asked, self.final)
    return {path for path, yes, no in zip(paths, chosen, dense) if yes and not no}

  def counts(self, along: Along) -> Callable[[float], np.ndarray]:
    """From a sparsity to how many units of each part are kept at it."""
    name, values = self.method.name, along.weights
    if by_values(self.asked):
      if tree.is_traced(*values.values()):
        raise _errors.distribution_traced(name)
      values = self._scores(along, self.step(along, 0, along.weights, {}))
    followers = self._followers(along)
    scored = among_all(along, {p: x for p, x in values.items() if p not in followers})
    return counts(name, along.whole, scored, self.asked, self.final)

  def step(
    self,
    along: Along,
    count: Any,
    weights: ByPath,
    masks: ByPath,
    memory: Any = (),
    kept: Any = None,
    key: Any = (),
    inner: Any = None,
  ) -> Step:
    """What the method sees of a call; ``key`` is the data of a key in a state."""
    if isinstance(key, jax.Array):
      key = jax.random.fold_in(jax.random.wrap_key_data(key, impl=self.key[1]), count)
      if not along.has_updates:  # `init`: else the first change would grow what it has just dropped
        key = jax.random.fold_in(key, 1)
    else:
      key = None
    return Step(
      count=count,
      weights=weights,
      grads=each(single, along.updates) if along.has_updates else {},
      masks=each(unpack_leaf, masks),
      memory=memory,
      kept=kept,
      key=key,
      inner=inner,
      shapes=tree.shapes(along.whole),
      name=self.method.name,
      followers=self._followers(along),
      _best=lambda *asked: self._best(along, *asked),
      _scores=lambda step: self._scores(along, step),
    )

  def _followers(self, along: Along) -> frozenset[str]:
    """The leaves that have a mask though they aren't selected."""
    if not self.method.followers:
      return frozenset()
    return frozenset(along.masks) - self._own(along.params_with(along.weights))

  def _best(self, along: Along, scores: ByPath, kept: Any, among: Any, first: Any) -> ByPath:
    apart = lambda masks: None if masks is None else among_all(along, masks)
    found = masks_by(
      self.method.name,
      along.whole,
      among_all(along, scores),
      None,
      self.asked,
      apart(among),
      places=kept,
      first=apart(first),
    )
    return by_path(scores, [found[path] for path in scores])

  def _scores(self, along: Along, step: Step) -> ByPath:
    params = along.params_with(step.weights)
    chosen = [path in step.weights for path in along.whole]
    takes_it = lambda name: callable(self.scorer) and takes(self.scorer, name)
    given = {}
    if takes_it('grads'):
      if not along.has_updates:
        raise _errors.no_gradients_yet(self.method.name)
      given = {'grads': along.updates_with(step.grads)}
    key = step.key if takes_it('key') else None
    roles = self.asked.roles
    found = scores_by(self.method.name, params, chosen, self.scorer, key, roles, given)
    return along.flat(found)


def among_all(along: Along, leaves: ByPath) -> Any:
  """Leaves that are pruned among all params, ``None`` for the others."""
  return by_path(along.whole, [leaves.get(path) for path in along.whole])
