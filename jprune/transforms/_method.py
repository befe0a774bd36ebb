"""What tells one method of sparse training from another: how masks change."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jprune.masks._selection import wide as _wide
from jprune.transforms import _errors, _moments
from jprune.typing import ByPath


class Method(NamedTuple):
  """How masks change: what tells one method of sparse training from another.

  All functions take a :class:`Step`. Trees in it, and in what they return, are dicts by path of
  leaf that hold the leaves which are pruned.

  Attributes:
    name: for messages.
    change: the masks (bools) and the memory from now on; called where masks change. ``None`` if
      they never do.
    start: the masks with which ``init`` begins; by default nothing is pruned. Its step has no
      gradients.
    remember: from the weights, the memory with which ``init`` begins: any tree of dicts like the
      weights; by default nothing.
    observe: the memory on each call, before masks change.
    gradient: the gradients that the inner optimizer gets; by default those at hand, with zeros
      where weights are pruned (unless ``dense``). Its step has the masks of this call.
    dense: whether weights live on behind their masks: the inner optimizer then moves dense weights,
      which are part of the state, and the params show those that are kept.
    show: with ``dense``, what the params show; by default the dense weights, zero where pruned.
    regrows: whether weights may come back, so that the sparsity may fall.
    random: whether random numbers are drawn, so that a key is needed.
    followers: from all params and the paths of those that are selected, the paths of others that
      get a mask as well. They aren't counted; what is pruned of them, the method says.

  Examples:
    >>> def change(step):  # the largest gradients stay, whatever the weights are
    ...   return step.best({path: jnp.abs(g) for path, g in step.grads.items()}), ()
    >>> method = Method('by_gradient', change, regrows=True)
    >>> tx = jprune.transforms.sparse_training(method, optax.sgd(0.1), 0.5, every=10)
    >>> params = {'kernel': jnp.ones((2, 2))}
    >>> grads = {'kernel': jnp.array([[3.0, -1.0], [0.5, 2.0]])}
    >>> _, state = tx.update(grads, tx.init(params), params)
    >>> jprune.transforms.masks_of(state)['kernel']
    Array([[ True, False],
           [False,  True]], dtype=bool)
  """

  name: str
  change: Callable[[Step], tuple[ByPath, Any]] | None
  start: Callable[[Step], ByPath] | None = None
  remember: Callable[[ByPath], Any] | None = None
  observe: Callable[[Step], Any] | None = None
  gradient: Callable[[Step], ByPath] | None = None
  dense: bool = False
  show: Callable[[Step], ByPath] | None = None
  regrows: bool = False
  random: bool = False
  followers: Callable[[ByPath, set[str]], Iterable[str]] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
  """What a method sees of one call of ``update``; trees are dicts by path of leaf.

  Attributes:
    count: calls before this one, int32.
    weights: before this call; with ``dense``, the dense ones.
    grads: gradients, or whatever updates came in, float32; at ``init``, empty.
    masks: in force, bools.
    memory: what the method keeps beside its masks.
    kept: how many units each part is to keep, wide counts ``(parts, 2)``; for :meth:`best`.
    key: a random key of this call; ``None`` for methods that don't draw.
    inner: state of the inner optimizer; ``None`` at ``init``.
    followers: paths of leaves that have a mask though they aren't selected; see :class:`Method`.
    shapes: of all leaves by path, also those that are not pruned.
    name: of the method.

  Examples:
    >>> def change(step):
    ...   drop = step.part(0.5)  # half of those that are to be kept
    ...   stay = step.best(step.scores(), kept=step.less(drop), among=step.masks)
    ...   return step.best(step.scores(), first=stay), ()
    >>> method = Method('example', change, regrows=True)
    >>> tx = jprune.transforms.sparse_training(method, optax.sgd(0.1), 0.5, every=10)
    >>> params = {'kernel': jnp.array([[3.0, 1.0], [0.5, 2.0]])}
    >>> _, state = tx.update(params, tx.init(params), params)
    >>> jprune.transforms.masks_of(state)['kernel']
    Array([[ True, False],
           [False,  True]], dtype=bool)
  """

  count: Any
  weights: ByPath
  grads: ByPath
  masks: ByPath
  memory: Any
  kept: Any
  key: Any
  inner: Any
  followers: frozenset[str]
  shapes: Mapping[str, tuple[int, ...]]
  name: str
  _best: Callable[..., ByPath]
  _scores: Callable[..., ByPath]

  def best(
    self,
    scores: ByPath,
    *,
    kept: Any = None,
    among: ByPath | None = None,
    first: ByPath | None = None,
  ) -> ByPath:
    """Masks of the weights with the highest scores, as distribution and pattern have it.

    Args:
      scores: by path, higher = keep.
      kept: how many; by default as many as are to be kept now.
      among: masks; no other weights are chosen.
      first: masks; these weights are chosen before all others.

    Returns:
      Bools by path.
    """
    return self._best(scores, self.kept if kept is None else kept, among, first)

  def scores(self) -> ByPath:
    """What the scorer says of the weights: higher = keep."""
    return self._scores(self)

  def second_moments(self) -> ByPath:
    """What an Adam-like inner optimizer keeps of squared gradients.

    Raises:
      ValueError: if it keeps none of a leaf.
    """
    found = _moments.named(self.inner, 'nu', {path: w.shape for path, w in self.weights.items()})
    if missing := [path for path in self.weights if path not in found]:
      raise _errors.no_second_moments(self.name, missing[0])
    return by_path(self.weights, [found[path] for path in self.weights])

  def part(self, fraction: Any) -> jax.Array:
    """A fraction in [0, 1] of how many are to be kept, rounded: wide counts."""
    return _wide.share(fraction, self.kept)

  def less(self, by: jax.Array) -> jax.Array:
    """How many are to be kept, less so many: wide counts."""
    return _wide.subtract(self.kept, by)


Change = Callable[[Step], tuple[ByPath, Any]]
"""From a step to the masks and the memory from now on."""


def by_path(paths: Any, leaves: Any) -> Any:
  """A dict by path in the order of leaves, which JAX keeps."""
  return collections.OrderedDict(zip(paths, leaves, strict=True))


def joined(first: ByPath, then: ByPath) -> ByPath:
  """The leaves of both, in the order of the first; those of the second where both have one."""
  leaves = {**first, **then}
  return by_path(leaves, leaves.values())


def each(function: Callable[..., Any], *trees: ByPath) -> ByPath:
  """A function of one leaf of each tree, for all paths."""
  return by_path(trees[0], [function(*(tree[path] for tree in trees)) for path in trees[0]])


def magnitudes(weights: ByPath) -> ByPath:
  """Absolute values in float32, or float64: what weights and gradients are compared by."""
  return each(lambda x: jnp.abs(single(x)), weights)


def single(x: jax.Array) -> jax.Array:
  """In float32; wider and complex numbers as they are."""
  return x if x.dtype.itemsize >= 4 else x.astype(jnp.float32)
