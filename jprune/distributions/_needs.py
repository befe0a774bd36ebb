"""What a distribution says of itself by attributes; :class:`jprune.typing.Distribution` lists them.

Nothing recognises a distribution by which one it is, so a user's own can do all that those here do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

F = TypeVar('F', bound=Callable[..., Any])


class Needs(NamedTuple):
  """The attributes, with what holds of a function that has none of them."""

  needs_scores: bool = True
  needs_sparsity: bool | None = None
  shares_alike: bool = False
  one_threshold: bool = False


def needs_of(distribution: Any) -> Needs:
  """The attributes of a distribution, whatever options are bound to it."""
  while isinstance(distribution, functools.partial):
    distribution = distribution.func
  return Needs(*(getattr(distribution, name, none) for name, none in Needs()._asdict().items()))


def says(**attributes: bool) -> Callable[[F], F]:
  """A decorator that gives a distribution its attributes."""

  def given(distribution: F) -> F:
    for name, value in attributes.items():
      setattr(distribution, name, value)
    return distribution

  return given
