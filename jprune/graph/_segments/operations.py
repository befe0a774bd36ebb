"""What single operations of a program do, and what makes two of them the same."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp
from jax import lax
from jax.extend import core

from jprune.graph._program.evaluate import evaluate_whole


class Evaluate:
  """An equation of a jaxpr.

  Attributes:
    eqn: the equation.
  """

  def __init__(self, eqn: Any) -> None:
    self.eqn = eqn

  def __call__(self, xs: Sequence[Any]) -> list[Any]:
    with self.eqn.ctx.manager:
      return evaluate_whole(self.eqn, xs)

  @functools.cached_property
  def key(self) -> Hashable:
    """Equal for equations that do the same, such as those of two layers."""
    params = tuple((name, _key(value)) for name, value in sorted(self.eqn.params.items()))
    return self.eqn.primitive, self.eqn.ctx, params


@dataclasses.dataclass(frozen=True)
class TakeStep:
  """What a step of a scan sees: an index along the first axis. Operands: the whole, the index."""

  @property
  def key(self) -> Hashable:
    return self

  def __call__(self, xs: Sequence[Any]) -> list[Any]:
    return [lax.dynamic_index_in_dim(xs[0], xs[1], 0, keepdims=False)]


@dataclasses.dataclass(frozen=True)
class StackSteps:
  """What a scan collects, from that of all of its steps."""

  dtype: Any

  @property
  def key(self) -> Hashable:
    return self

  def __call__(self, xs: Sequence[Any]) -> list[Any]:
    return [jnp.stack([jnp.asarray(x, self.dtype) for x in xs])]


@dataclasses.dataclass(frozen=True)
class Transpose:
  """A permutation of axes."""

  permutation: tuple[int, ...]

  @property
  def key(self) -> Hashable:
    return self

  def __call__(self, xs: Sequence[Any]) -> list[Any]:
    return [lax.transpose(xs[0], self.permutation)]


How: TypeAlias = Evaluate | TakeStep | StackSteps | Transpose


def _key(value: Any) -> Hashable:
  """Equal for params that mean the same; what can't be compared is equal to itself alone."""
  if isinstance(value, core.ClosedJaxpr):
    return str(value.jaxpr), tuple(_Same(x) for x in _constants(value))
  if isinstance(value, core.Jaxpr):
    return str(value), tuple(_Same(x) for x in _constants(value))
  if type(value) in (list, tuple):
    return tuple(_key(each) for each in value)
  try:
    hash(value)
  except TypeError:
    return _Same(value)
  return value


class _Same:
  """A value, which is equal to itself alone."""

  def __init__(self, value: Any) -> None:
    self.value = value

  def __eq__(self, other: object) -> bool:
    return isinstance(other, _Same) and other.value is self.value

  def __hash__(self) -> int:
    return id(self.value)


def same(value: Any) -> Hashable:
  """A key that is equal for one and the same object alone, which it keeps alive."""
  return _Same(value)


def _constants(jaxpr: Any) -> list[Any]:
  """The constants of a jaxpr and of all that it calls, which its text leaves out."""
  out = list(getattr(jaxpr, 'consts', ()))
  for eqn in getattr(jaxpr, 'jaxpr', jaxpr).eqns:
    for value in eqn.params.values():
      for each in value if type(value) in (list, tuple) else (value,):
        if isinstance(each, (core.Jaxpr, core.ClosedJaxpr)):
          out += _constants(each)
  return out
