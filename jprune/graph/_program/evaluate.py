"""Single equations as functions."""

# What JAX takes and gives is only partly typed.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
from jax.extend import core

from jprune.graph._program.sharding import struct


def single(eqn: Any) -> Any:
  """A closed jaxpr that is this one equation; its inputs are all operands, literals included."""
  template = jax.make_jaxpr(_all)(*[struct(v.aval) for v in eqn.invars])
  return core.ClosedJaxpr(
    template.jaxpr.replace(
      eqns=[eqn.replace(invars=list(template.jaxpr.invars))], outvars=list(eqn.outvars)
    ),
    [],
  )


def _all(*xs: Any) -> tuple[Any, ...]:
  return xs


def bound(eqn: Any, xs: Sequence[Any], instead: Mapping[str, Any] | None = None) -> list[Any]:
  """The results of an equation's primitive, with its own params, or others instead of some."""
  out = eqn.primitive.bind(*xs, **{**eqn.params, **(instead or {})})
  return list(out) if eqn.primitive.multiple_results else [out]


def evaluate_whole(eqn: Any, xs: Sequence[Any]) -> list[Any]:
  """The results of any equation at full shapes."""
  try:
    return bound(eqn, xs)
  except (TypeError, KeyError, IndexError):  # it calls functions, which its primitive wants apart
    return list(cast(Sequence[Any], core.jaxpr_as_fun(single(eqn))(*xs)))
