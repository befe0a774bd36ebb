"""The words that signatures use: trees of arrays, and the callables that map them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax

Params: TypeAlias = Any
"""Tree of parameters: any pytree whose leaves are arrays."""

Masks: TypeAlias = Any
"""Tree with the structure of the params. A leaf is a bool array of the param's shape
(``True`` = keep), a :class:`jprune.masks.PackedMask`, or ``None`` (= stays dense)."""

Scores: TypeAlias = Any
"""Tree with the structure of the params. A leaf is a floating array of the param's shape
(higher = keep), or ``None`` (= not scored)."""

Sparsities: TypeAlias = Any
"""Fraction of zeros in [0, 1]: one number for all leaves; a tree with the structure of the
params (``None`` = stays dense); or a dict from leaf path to number (paths that are left out
stay dense)."""

Where: TypeAlias = Any
"""What selects leaves: a predicate ``(path, leaf) -> bool``, a regular expression that is
searched for in the leaf's path, a list of these (any of them selects), a tree of bools with
the structure of the params, or ``None``: floating leaves of two or more dimensions."""

Schedule: TypeAlias = Callable[[Any], Any]
"""``count -> sparsity``: the step, an int or an int array, to a fraction in [0, 1]."""


class Scorer(Protocol):
  """``scorer(params, **scorer_args) -> scores``. A random scorer takes ``key``."""

  def __call__(self, params: Params, **scorer_args: Any) -> Scores: ...


class Distribution(Protocol):
  """``distribution(params, scores, sparsity) -> sparsities``, one number for each leaf.

  ``params`` and ``scores`` hold ``None`` where a leaf is not to be pruned.
  """

  def __call__(self, params: Params, scores: Scores, sparsity: float) -> Sparsities: ...


class LossFn(Protocol):
  """``loss_fn(params, batch) -> scalar``, the mean over the batch."""

  def __call__(self, params: Params, batch: Any) -> jax.Array: ...


@runtime_checkable
class Pattern(Protocol):
  """Which weights live and die together: the unit that selection counts.

  ``check`` refuses shapes that the pattern doesn't fit, ``unit_scores`` reduces the scores of
  one leaf to one score for each unit, ``expand`` spreads a mask over units back to weights.
  """

  def check(self, function: str, path: str, shape: tuple[int, ...]) -> None: ...

  def unit_scores(self, scores: jax.Array) -> jax.Array: ...

  def expand(self, units: jax.Array, shape: tuple[int, ...]) -> jax.Array: ...
