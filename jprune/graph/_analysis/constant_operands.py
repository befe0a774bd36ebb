"""Values that depend on no input: position tables, zeros to start from, random projections.

Two layers that multiply by the same table have nothing to do with each other by that. So every
equation that uses such a value gets a copy of its own, whose axes are free: the value itself is
computed whole, and each copy takes the entries that its equation needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend import core

from jprune.graph._axes.layout import Apart, Axis, Cut, Expr, New, Take, Together
from jprune.graph._axes.pruned import ANY, BAD, UNIFORM, ZERO
from jprune.graph._program.calls import called
from jprune.graph._program.frame import closed
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import RULES
from jprune.graph._rules.elementwise import combined
from jprune.graph._rules.sites import Equation

_MOST_READ = 2**24


class Fixed(NamedTuple):
  """What is known of a value that depends on no input.

  Attributes:
    default: ``ZERO`` if it is zero everywhere, else ``UNIFORM``.
    axes: for each axis ``ZERO``; ``UNIFORM`` if entries are the same along it; ``ANY``; or ``BAD``
      if some may be infinite or NaN.
  """

  default: int
  axes: tuple[int, ...]


def with_copies(jaxpr: Any, consts: dict[Any, Any]) -> tuple[Any, dict[int, Fixed]]:
  """The jaxpr with a copy of a fixed value before each equation that uses it beside others.

  Returns:
    The jaxpr, and by index of the equations that are such copies what they copy.
  """
  fixed = {var: _of_constant(consts[var]) for var in jaxpr.constvars}
  eqns: list[Any] = []
  copies: dict[int, Fixed] = {}
  for eqn in jaxpr.eqns:
    known = [_read(fixed, var) for var in eqn.invars]
    ins = [each for each in known if each is not None]
    if len(ins) == len(known) and not eqn.effects:
      for var, out in zip(eqn.outvars, _outs(eqn, ins)):
        fixed[var] = out
    else:
      new = dict.fromkeys(v for v, each in zip(eqn.invars, known) if each and _has_axes(v))
      for var in new:
        copies[len(eqns)] = fixed[var]
        copy = _copy(var, eqn)
        new[var] = copy.outvars[0]
        eqns.append(copy)
      if new:
        replaced = [v if _is_literal(v) else new.get(v, v) for v in eqn.invars]
        eqn = eqn.replace(invars=replaced)
    eqns.append(eqn)
  return (jaxpr.replace(eqns=eqns), copies) if copies else (jaxpr, {})


def _is_literal(var: Any) -> bool:
  return isinstance(var, core.Literal)


def _has_axes(var: Any) -> bool:
  return not _is_literal(var) and bool(getattr(var.aval, 'shape', ()))


def _copy(var: Any, user: Any) -> Any:
  """An equation that copies a variable, as if it stood in the line that uses it."""
  struct = jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype)
  # A new function each time: a trace that jax remembers would give the same variable twice.
  (made,) = jax.make_jaxpr(lambda x: lax.optimization_barrier(x))(struct).jaxpr.eqns
  return made.replace(invars=[var], source_info=user.source_info, ctx=user.ctx)


def _read(fixed: dict[Any, Fixed], var: Any) -> Fixed | None:
  if _is_literal(var):
    zero = not np.asarray(var.val).astype(bool).any()
    return Fixed(ZERO if zero else UNIFORM, (ANY,) * np.ndim(var.val))
  return fixed.get(var)


def _outs(eqn: Any, ins: Sequence[Fixed]) -> list[Fixed]:
  shapes = [tuple(getattr(var.aval, 'shape', ())) for var in eqn.outvars]
  if has(eqn, Trait.EACH):
    return list(ins)
  if has(eqn, Trait.INLINE) and (jaxpr := called(eqn)) is not None:
    return _results(*closed(jaxpr), ins)
  if has(eqn, Trait.ELEMENTWISE):
    return [_of_entries(eqn, shape, ins) for shape in shapes]
  rule = RULES.get(eqn.primitive.name)
  if not ins and rule is not None and rule.reorders is not None:
    along = rule.reorders(Equation(eqn))
    return [Fixed(UNIFORM, tuple(ANY if i in along else UNIFORM for i in range(len(shapes[0]))))]
  if rule is not None and has(eqn, Trait.MOVES):
    filled = rule.fills is not None and rule.fills(Equation(eqn)) is not None
    if all(each.default == ZERO for each in ins[: rule.indices]) and not filled:
      return [Fixed(ZERO, (ZERO,) * len(shape)) for shape in shapes]
    layout = None if rule.layout is None else rule.layout(Equation(eqn))
    if layout is not None:
      data = [each for each in ins if each.axes]
      return [Fixed(UNIFORM, tuple(_along(x, data) for x in axes)) for axes in layout.results]
  worst = max((max((each.default, *each.axes)) for each in ins), default=ANY)
  return [Fixed(UNIFORM, (max(worst, ANY),) * len(shape)) for shape in shapes]


def _results(jaxpr: Any, consts: Sequence[Any], ins: Sequence[Fixed]) -> list[Any]:
  """Of a jaxpr that is called with values that depend on no input."""
  fixed = {var: _of_constant(x) for var, x in zip(jaxpr.constvars, consts, strict=True)}
  fixed.update(zip(jaxpr.invars, ins, strict=True))
  for eqn in jaxpr.eqns:
    known = [cast(Fixed, _read(fixed, var)) for var in eqn.invars]  # as are all values in there
    fixed.update(zip(eqn.outvars, _outs(eqn, known), strict=True))
  return [_read(fixed, var) for var in jaxpr.outvars]


def _along(expr: Expr, operands: Sequence[Fixed]) -> int:
  """What entries are along an axis of what was moved; several side by side may differ."""
  match expr:
    case Axis(operand, index):
      return operands[operand].axes[index] if len(operands) == 1 else ANY
    case Together(factors):
      return max((_along(factor, operands) for factor in factors), default=UNIFORM)
    case Apart(of) | Cut(of) | Take(of):
      return _along(of, operands)
    case New():
      return UNIFORM
  return max([ANY, *(each for x in operands for each in x.axes)])


def _of_entries(eqn: Any, shape: tuple[int, ...], ins: Sequence[Fixed]) -> Fixed:
  equation = Equation(eqn)
  axes = []
  for axis, size in enumerate(shape):
    has_it = lambda var, axis=axis, size=size: var.aval.shape[axis : axis + 1] == (size,)
    pairs = zip(eqn.invars, ins, strict=True)
    along = [each.axes[axis] if has_it(var) else each.default for var, each in pairs]
    axes.append(combined(equation, along))
  return Fixed(combined(equation, [each.default for each in ins]), tuple(axes))


def _of_constant(value: Any) -> Fixed:
  """A constant is looked at: it may be zero, or the same along an axis."""
  shape = tuple(np.shape(value))
  unknown = Fixed(UNIFORM, (ANY,) * len(shape))
  if isinstance(value, Tracer) or not hasattr(value, 'dtype') or value.size > _MOST_READ:
    return unknown
  if jnp.issubdtype(value.dtype, jax.dtypes.extended):
    return unknown
  value = np.asarray(value)
  if not value.astype(bool).any():
    return Fixed(ZERO, (ZERO,) * len(shape))
  if not np.isfinite(value.astype(np.complex128)).all():
    return Fixed(UNIFORM, (BAD,) * len(shape))
  same = [bool((value == value.take([0], axis=axis)).all()) for axis in range(len(shape))]
  return Fixed(UNIFORM, tuple(UNIFORM if each else ANY for each in same))
