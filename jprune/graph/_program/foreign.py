"""Primitives that stand for a function while another library traces, as that function.

A converter of models replaces functions of JAX and Flax by primitives of its own while it traces,
so that it finds them again in the jaxpr: a ``relu`` arrives as one equation that no rule here
knows, and that XLA can't compile. What it has is a Python implementation, the function that it
stands for; that is traced in its place, with the derivatives that it has.
"""

# What JAX takes and gives is only partly typed.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import mlir

from jprune.graph._program.sharding import struct

_DEEPEST = 32  # a primitive may be implemented by others, but not by itself


def has_foreign(jaxpr: Any, known: Container[str]) -> bool:
  """Whether an equation of a jaxpr, or of one that it calls, stands for a function.

  ``known`` are the names of the primitives that have a rule.
  """
  for eqn in jaxpr.eqns:
    if eqn.primitive.name not in known:  # what it calls, such as a kernel, is its own affair
      found = _is_foreign(eqn.primitive, known)
    else:
      found = any(has_foreign(each, known) for each in _jaxprs(eqn.params.values()))
    if found:
      return True
  return False


def _is_foreign(primitive: Any, known: Container[str]) -> bool:
  """Whether it is no operation: no rule knows it, nor does XLA."""
  # No public name says what XLA knows.
  everywhere = mlir._lowerings  # pyright: ignore[reportPrivateUsage]
  by_platform = mlir._platform_specific_lowerings  # pyright: ignore[reportPrivateUsage]
  tables = (everywhere, *by_platform.values())
  return primitive.name not in known and not any(primitive in table for table in tables)


def _jaxprs(values: Iterable[Any]) -> Iterator[Any]:
  for value in values:
    if isinstance(value, (core.Jaxpr, core.ClosedJaxpr)):
      yield getattr(value, 'jaxpr', value)
    elif type(value) in (list, tuple):
      yield from _jaxprs(value)


def without_foreign(jaxpr: Any, known: Container[str], depth: int = 0) -> Any:
  """The same jaxpr (closed or not), where such primitives are calls of their implementation.

  One whose implementation can't be traced, or that has none, stays, and has no rule.
  """
  inner = getattr(jaxpr, 'jaxpr', jaxpr)
  if depth > _DEEPEST or not has_foreign(inner, known):
    return jaxpr
  inner = inner.replace(eqns=[_plain(eqn, known, depth) for eqn in inner.eqns])
  return jaxpr.replace(jaxpr=inner) if hasattr(jaxpr, 'jaxpr') else inner


def _plain(eqn: Any, known: Container[str], depth: int) -> Any:
  if _is_foreign(eqn.primitive, known):
    return _call(eqn, eqn.primitive.impl, known, depth)
  if eqn.primitive.name not in known:
    return eqn
  return eqn.replace(
    params={name: _within(value, known, depth) for name, value in eqn.params.items()}
  )


def _within(value: Any, known: Container[str], depth: int) -> Any:
  """A param of an equation: what jaxprs it holds."""
  if isinstance(value, (core.Jaxpr, core.ClosedJaxpr)):
    return without_foreign(value, known, depth)
  if type(value) in (list, tuple):
    return type(value)(_within(each, known, depth) for each in value)
  return value


def _call(eqn: Any, function: Callable[..., Any], known: Container[str], depth: int) -> Any:
  """An equation that calls the implementation; one that can't be traced stays as it is."""
  given = [var for var in eqn.invars if not isinstance(var, core.Literal)]
  wanted = [(var.aval.shape, var.aval.dtype) for var in eqn.outvars]
  for run in _forms(eqn, function):
    try:
      traced = jax.make_jaxpr(jax.jit(_with_literals(eqn, run)))(*[struct(v.aval) for v in given])
    except Exception:  # it takes its operands in another form, or needs their values
      continue
    found = [(var.aval.shape, var.aval.dtype) for var in traced.jaxpr.outvars]
    if found == wanted and not traced.consts and len(traced.jaxpr.eqns) == 1:
      (call,) = traced.jaxpr.eqns
      params = {name: _within(value, known, depth + 1) for name, value in call.params.items()}
      return call.replace(invars=given, outvars=list(eqn.outvars), params=params)
  return eqn


def _forms(eqn: Any, function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
  """How an implementation may take operands and params: nobody but its author ever called it."""
  params = eqn.params
  yield lambda *xs: function(*xs, **params)
  yield lambda *xs: function(xs, **params)  # as concatenations do
  found = inspect.signature(function).parameters.values()
  named = [each.name for each in found if each.kind == each.POSITIONAL_OR_KEYWORD]
  first = list(itertools.takewhile(params.__contains__, named))  # as einsum its equation
  rest = {name: value for name, value in params.items() if name not in first}
  yield lambda *xs: function(*(params[name] for name in first), *xs, **rest)


def _with_literals(eqn: Any, run: Callable[..., Any]) -> Callable[..., Any]:
  """A function of the operands that aren't numbers in the code, which may have to be known."""

  def call(*xs: Any) -> Any:
    rest = iter(xs)
    return run(*(v.val if isinstance(v, core.Literal) else next(rest) for v in eqn.invars))

  return call
