"""A traced function as frames: one for each time that a jaxpr runs.

The same jaxpr may be called twice with other channels, so what is known about its values is kept
by frame, never by jaxpr.
"""

from __future__ import annotations

import math
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

from jprune.graph._axes.atoms import Atom, Cause, Dims, counts, fresh_all
from jprune.graph._program.evaluate import single
from jprune.graph._program.traits import Trait, has

_MOST_FOLDED = 2**20
_LIBRARIES = tuple(
  f'{os.sep}{name}{os.sep}' for name in ('jax', 'jaxlib', 'numpy', 'flax', 'equinox', 'haiku')
)


class Frame:
  """One run of a jaxpr.

  Attributes:
    jaxpr: without its constants.
    consts: the values of its constant variables.
    dims: of every variable, once it is coupled.
    children: frames of the jaxprs that an equation calls, by its index and their role.
    status: what is known about pruned entries of every variable, once that is worked out.
    ghosts: atoms whose pruned entries an equation has to reckon with, by its index.
    given_up: indices of the equations that no rule covers; their operands are frozen.
    copies: what is known of the values, fixed while tracing, that equations copy, by their index.
    caller: the frame and the equation that called this one.
    outer: the frame and the operands from which the inputs come, where the call is inlined.
    role: which of the jaxprs that its caller calls it is; ``None`` of the function itself.
    is_rule: whether it is a derivative rule.
    closed: of a derivative rule, the variables of the calling frame that are its first inputs.
    moving: of a derivative rule, the operands of its caller by which it is one.
    params: of the function itself, how many of its inputs are params.
    perturbed: of which variables there are derivatives by the params, once somebody asks.
  """

  def __init__(self, jaxpr: Any, consts: Any = ()) -> None:
    self.jaxpr = jaxpr
    self.consts = dict(zip(jaxpr.constvars, consts))
    self.copies: dict[int, Any] = {}
    self.dims: dict[Any, Dims] = {}
    self.children: dict[int, dict[Any, Frame]] = {}
    self.status: dict[Any, Any] = {}
    self.ghosts: dict[int, tuple[Any, ...]] = {}
    self.given_up: set[int] = set()
    self.caller: tuple[Frame, Any] | None = None
    self.role: Any = None
    self.is_rule = False
    self.closed: list[Any] = []
    self.moving: tuple[int, ...] = ()
    self.params = 0
    self.perturbed: dict[Any, bool] | None = None
    self.outer: tuple[Frame, int, tuple[Any, ...]] | None = None
    self._makers: dict[Any, int] | None = None
    self._literals: dict[int, Dims] = {}
    self._constants: dict[Any, np.ndarray | None] = {}
    self._counts: dict[Any, dict[Atom, int]] = {}

  def dims_of(self, var: Any) -> Dims:
    """Dimensions of a variable or a literal."""
    if not isinstance(var, core.Literal):
      return self.dims[var]
    shape = np.shape(var.val)
    return self._literals.setdefault(id(var), fresh_all(shape)) if shape else ()

  def counts(self, var: Any) -> dict[Atom, int]:
    """At how many indices of each atom an entry lies; asked for once all axes are coupled."""
    key = id(var) if isinstance(var, core.Literal) else var
    if key not in self._counts:
      self._counts[key] = counts(self.dims_of(var))
    return self._counts[key]

  def maker(self, var: Any) -> int | None:
    """Index of the equation that makes a variable."""
    if self._makers is None:
      self._makers = {v: i for i, eqn in enumerate(self.jaxpr.eqns) for v in eqn.outvars}
    return self._makers.get(var)

  def constant(self, var: Any) -> np.ndarray | None:
    """The value of an integer variable that doesn't depend on the inputs."""
    if isinstance(var, core.Literal):
      return np.asarray(var.val)
    if not _is_index(var.aval):
      return None
    if var not in self._constants:
      self._constants[var] = self._fold(var)
    return self._constants[var]

  def scalar(self, var: Any) -> float | None:
    """The value of a real scalar that is written in the code."""
    if isinstance(var, core.Literal):
      return written(var)
    index = self.maker(var)
    if index is None:
      if self.outer is None or var not in self.jaxpr.invars:
        return None
      frame, _, operands = self.outer
      return frame.scalar(operands[list(self.jaxpr.invars).index(var)])
    eqn = self.jaxpr.eqns[index]
    if 'new_dtype' in eqn.params:
      number = self.scalar(eqn.invars[0])
      return None if number is None else _converted(number, eqn.params['new_dtype'])
    if has(eqn, Trait.EACH):
      return self.scalar(eqn.invars[eqn.outvars.index(var)])
    if has(eqn, Trait.SPREADS):
      return self.scalar(eqn.invars[0])
    return None

  def _fold(self, var: Any) -> np.ndarray | None:
    if var in self.consts:
      value = self.consts[var]
      return None if isinstance(value, jax.core.Tracer) else np.asarray(value)
    if (index := self.maker(var)) is None:
      if self.outer is not None and var in self.jaxpr.invars:
        frame, _, operands = self.outer
        return frame.constant(operands[list(self.jaxpr.invars).index(var)])
      return None
    eqn = self.jaxpr.eqns[index]
    if not has(eqn, Trait.FOLDS):
      return None
    values = [self.constant(v) for v in eqn.invars]
    if any(value is None for value in values):
      return None
    with jax.ensure_compile_time_eval():
      out = core.jaxpr_as_fun(single(eqn))(
        *[jnp.asarray(v, u.aval.dtype) for v, u in zip(values, eqn.invars)]
      )
    for each, value in zip(eqn.outvars, out):
      self._constants[each] = np.asarray(value)
    return self._constants[var]


def written(var: Any) -> float | None:
  """The value of a real scalar that is a literal."""
  if not isinstance(var, core.Literal) or np.ndim(var.val) or np.imag(var.val):
    return None
  return float(np.real(var.val))


def closed(jaxpr: Any) -> tuple[Any, Any]:
  """A jaxpr and its constants, of a closed or an open one."""
  return (jaxpr.jaxpr, jaxpr.consts) if hasattr(jaxpr, 'consts') else (jaxpr, ())


def without_dead(jaxpr: Any) -> Any:
  """The jaxpr less the equations that no output depends on; it keeps all inputs."""
  used = [True] * len(jaxpr.outvars)
  return partial_eval.dce_jaxpr(jaxpr, used, instantiate=True)[0]


def line(eqn: Any) -> str:
  """Where in the user's code an equation comes from: ``file.py:12``, or nothing if unknown."""
  traceback = getattr(eqn.source_info, 'traceback', None)
  frames = list(getattr(traceback, 'frames', ()) or ())
  for frame in frames:
    name = frame.file_name
    if not any(each in name for each in _LIBRARIES) and not _is_ours_or_pythons(name):
      return f'{os.path.basename(name)}:{frame.line_num}'
  return ''


def place(eqn: Any, frame: Frame | None) -> str:
  """Where an equation of a frame comes from, or else what called the frame."""
  where = line(eqn)
  while not where and frame is not None and frame.caller is not None:
    frame, eqn = frame.caller
    where = line(eqn)
  return where


def _is_ours_or_pythons(name: str) -> bool:
  if name.startswith(os.path.dirname(os.path.dirname(__file__))):
    return True
  return name.startswith(os.path.dirname(os.__file__) + os.sep) and 'site-packages' not in name


def described(cause: Cause) -> str:
  """A cause as text, with its source line."""
  where = '' if cause.eqn is None else place(cause.eqn, cause.frame)
  return f'{cause.text} ({where})' if where else cause.text


def _converted(number: float, dtype: Any) -> float | None:
  """A number as one of another dtype, if that has real numbers."""
  if jnp.issubdtype(dtype, jnp.complexfloating) or not jnp.issubdtype(dtype, jnp.number):
    return number if dtype != jnp.bool_ else float(bool(number))
  whole = jnp.issubdtype(dtype, jnp.integer) and math.isfinite(number)
  return float(np.asarray(int(number) if whole else number).astype(dtype))


def _is_index(aval: Any) -> bool:
  shape = getattr(aval, 'shape', None)
  if shape is None or not all(
    isinstance(n, int) for n in shape
  ):  # jax.export's sizes have no value
    return False
  if math.prod(shape) > _MOST_FOLDED:
    return False
  return jnp.issubdtype(aval.dtype, jnp.integer) or jnp.issubdtype(aval.dtype, jnp.bool_)
