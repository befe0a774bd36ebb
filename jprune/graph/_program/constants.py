"""What is known of values while tracing: indices that are computed from constants, scalars."""

# What JAX takes and gives is only partly typed.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend import core

from jprune.graph._axes.pruned import INFINITE, MADE, NAN, NEGATIVE, NULL, REAL, SIGNS
from jprune.graph._program.evaluate import single
from jprune.graph._program.frame import Frame
from jprune.graph._program.traits import Trait, has

_MOST_FOLDED = 2**20
_MOST_READ = 2**24


def constant(frame: Frame, var: Any) -> np.ndarray | None:
  """The value of an integer variable that doesn't depend on the inputs."""
  if isinstance(var, core.Literal):
    return np.asarray(var.val)
  if not _is_index(var.aval):
    return None
  if var not in frame.constants:
    frame.constants[var] = _fold(frame, var)
  return frame.constants[var]


def scalar(frame: Frame, var: Any) -> float | None:
  """The value of a real scalar that is written in the code."""
  if isinstance(var, core.Literal):
    return written(var)
  index = frame.maker(var)
  if index is None:
    return scalar(*frame.given[var]) if var in frame.given else None
  eqn = frame.jaxpr.eqns[index]
  if has(eqn, Trait.RESHAPES) and 'new_dtype' in eqn.params:  # not where bits are read anew
    number = scalar(frame, eqn.invars[0])
    return None if number is None else _converted(number, eqn.params['new_dtype'])
  if has(eqn, Trait.EACH):
    return scalar(frame, eqn.invars[eqn.outvars.index(var)])
  if has(eqn, Trait.SPREADS):
    return scalar(frame, eqn.invars[0])
  return None


def _fold(frame: Frame, var: Any) -> np.ndarray | None:
  if var in frame.consts:
    value = frame.consts[var]
    return None if isinstance(value, Tracer) else np.asarray(value)
  if (index := frame.maker(var)) is None:
    return constant(*frame.given[var]) if var in frame.given else None
  eqn = frame.jaxpr.eqns[index]
  if not has(eqn, Trait.FOLDS):
    return None
  values = [constant(frame, v) for v in eqn.invars]
  if any(value is None for value in values):
    return None
  frame.constants.update(zip(eqn.outvars, folded(eqn, values)))
  return frame.constants[var]


def folded(eqn: Any, values: Sequence[Any]) -> list[np.ndarray]:
  """The results of an equation while tracing, from the values of its operands."""
  with jax.ensure_compile_time_eval():
    given = [jnp.asarray(v, u.aval.dtype) for v, u in zip(values, eqn.invars)]
    out = cast(list[Any], core.jaxpr_as_fun(single(eqn))(*given))
  return [np.asarray(value) for value in out]


def written(var: Any) -> float | None:
  """The value of a real scalar that is a literal."""
  if not isinstance(var, core.Literal) or np.ndim(var.val) or np.imag(var.val):
    return None
  number: Any = var.val
  return float(number.real if hasattr(number, 'real') else number)


def _converted(number: float, dtype: Any) -> float | None:
  """A number as one of another dtype, if that has real numbers."""
  if jnp.issubdtype(dtype, jnp.complexfloating) or not jnp.issubdtype(dtype, jnp.number):
    return number if dtype != jnp.bool_ else float(bool(number))
  whole = jnp.issubdtype(dtype, jnp.integer) and math.isfinite(number)
  return float(np.asarray(int(number) if whole else number).astype(dtype))


def _is_index(aval: Any) -> bool:
  """Whether it may be an index, or several; the sizes of ``jax.export`` have no value."""
  shape = getattr(aval, 'shape', None)
  if shape is None or not all(isinstance(n, int) for n in shape):
    return False
  if math.prod(shape) > _MOST_FOLDED:
    return False
  return jnp.issubdtype(aval.dtype, jnp.integer) or jnp.issubdtype(aval.dtype, jnp.bool_)


def of_value(value: Any) -> int:
  """What the entries of a constant are."""
  return MADE | (_of_number(value) if isinstance(value, (bool, int, float)) else _of_array(value))


def _of_array(value: Any) -> int:
  dtype = getattr(value, 'dtype', None)
  if dtype is None or not jnp.issubdtype(dtype, jnp.number):
    return REAL
  if np.size(value) > _MOST_READ:
    return REAL
  if isinstance(value, Tracer) or not getattr(value, 'is_fully_addressable', True):
    return REAL
  x = np.asarray(value)
  if np.iscomplexobj(x) and not np.imag(x).any():
    x = np.real(x)
  if np.iscomplexobj(x):
    infinite = INFINITE if np.isinf(x).any() else 0
    return REAL | infinite | (NAN if np.isnan(x).any() else 0)
  if x.ndim == 0:
    return _of_number(x.item())
  x = x.astype(np.float64)
  found = NEGATIVE * bool((x < 0).any()) | NULL * bool((x == 0).any())
  found |= SIGNS * bool(((x == 0) & np.signbit(x)).any())
  return found | INFINITE * bool(np.isinf(x).any()) | NAN * bool(np.isnan(x).any())


def _of_number(x: Any) -> int:
  if x != x:
    return NAN
  if x == 0:
    return NULL | (SIGNS if math.copysign(1.0, x) < 0 else 0)
  return (NEGATIVE if x < 0 else 0) | (INFINITE if x in (math.inf, -math.inf) else 0)
