"""A function and the batches that it is run on, as a whole."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax

from jprune import _batches, _checks, tree
from jprune.graph._capture.capturing import Capturing
from jprune.graph._statistics.stats import Stats
from jprune.reconstruct import _errors
from jprune.reconstruct._caches import Cached, Caches
from jprune.typing import Params


class Model:
  """A function with its batches.

  Attributes:
    fn: the function.
    paths: of the params.
    batches: to be read once more, or once if nobody needs them again.
    first: arguments of the first batch, and weights of its tokens.
    passes: how often it was run over all of them.
  """

  def __init__(
    self,
    function: str,
    fn: Callable[..., Any],
    params: Params,
    batches: Iterable[Any],
    sample_weights: Callable[[Any], Any] | None,
    again: bool,
  ) -> None:
    """``again`` asks for batches that can be read several times."""
    self.fn, self.paths, self.passes = fn, tree.flatten(params)[0], 0.0
    self._function = function
    self._of = functools.partial(
      Capturing, function, fn, gram=True, sample_weights=sample_weights, split=True
    )
    self._capturing: dict[tuple[str, ...], Capturing] = {}
    first, self.batches = _peeked(function, batches, again)
    self.first = self._chosen().arguments(first)

  def _chosen(self, *paths: str) -> Capturing:
    if paths not in self._capturing:
      self._capturing[paths] = self._of([path in paths for path in self.paths])
    return self._capturing[paths]

  def shapes(self, params: Params, selected: Sequence[bool]) -> Stats:
    """What the first batch would give of some leaves, without running anything."""
    return self._of(selected).shapes(params, *self.first)

  def captured(self, paths: Iterable[str], params: Params, progress: bool = False) -> Stats:
    """What some leaves are multiplied by, in all batches."""
    self.passes += 1
    return self._chosen(*paths)(params, self.batches, progress)

  def keep(self, caches: Caches, progress: bool) -> list[Batch]:
    """Reads the batches once and for all."""
    capturing = self._chosen()
    given = _batches.shown(self._function, self.batches, progress)
    kept = [Batch(i, *capturing.arguments(batch), caches) for i, batch in enumerate(given)]
    self.batches = kept
    self._of = functools.partial(
      OfBatches, self._function, self.fn, gram=True, sample_weights=None, split=True
    )
    self._capturing.clear()
    return kept


class Batch:
  """A batch that waits while the model runs on others.

  Attributes:
    number: of the batch.
    args: leaves of its arguments.
    values: those of the program that wait for the next piece.
    cuts: the pieces of the function, for batches like it.
  """

  def __init__(self, number: int, args: Any, sample_weights: Any, caches: Caches) -> None:
    leaves, self._treedef = jax.tree.flatten(args)
    self.number = number
    self.args = [_kept(caches, leaf) for leaf in leaves]
    self._sample_weights = None if sample_weights is None else caches.keep(sample_weights)
    self.values: dict[int, Cached] = {}
    self.cuts: Any = None

  @property
  def sample_weights(self) -> Any:
    """Of its tokens, or ``None``."""
    return None if self._sample_weights is None else self._sample_weights.get()

  def given(self) -> tuple[Any, Any]:
    """The arguments, and the weights of their tokens."""
    return self._treedef.unflatten([leaf.get() for leaf in self.args]), self.sample_weights


def _kept(caches: Caches, leaf: Any) -> Cached:
  """An argument that waits: where it is if it takes the dtype of what it meets, as copies don't."""
  return Cached(lambda: leaf, []) if jax.typeof(leaf).weak_type else caches.keep(leaf)


class OfBatches(Capturing):
  """Statistics of batches that wait."""

  def arguments(self, batch: Batch) -> tuple[Any, Any]:
    return batch.given()


def _peeked(function: str, batches: Any, again: bool) -> tuple[Any, Iterable[Any]]:
  """The first batch, and all of them."""
  _checks.check_batches(function, batches)
  iterator: Iterator[Any] = iter(batches)
  if again and iterator is batches:
    raise _errors.batches_read_once(function)
  first = next(iterator, function)
  if first is function:
    raise _checks.no_batches(function)
  return first, itertools.chain([first], iterator) if iterator is batches else batches
