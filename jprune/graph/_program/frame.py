"""A traced function as frames: one for each time that a jaxpr runs.

The same jaxpr may be called twice with other channels, so what is known about its values is kept
by frame, never by jaxpr.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

from jprune.graph._axes.atoms import Atom, Dims, counts, fresh_all


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
    given: for inputs that are the same whenever it runs, the frame and the variable of its caller.
    role: which of the jaxprs that its caller calls it is; ``None`` of the function itself.
    is_rule: whether it is a derivative rule.
    closed: of a derivative rule, the variables of the calling frame that are its first inputs.
    moving: of a derivative rule, the operands of its caller by which it is one.
    params: of the function itself, how many of its inputs are params.
    perturbed: of which variables there are derivatives by the params, once somebody asks.
    constants: what values of indices are, once somebody asks.
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
    self.given: dict[Any, tuple[Frame, Any]] = {}
    self.role: Any = None
    self.is_rule = False
    self.closed: list[Any] = []
    self.moving: tuple[int, ...] = ()
    self.params = 0
    self.perturbed: dict[Any, bool] | None = None
    self.outer: tuple[Frame, int, tuple[Any, ...]] | None = None
    self._makers: dict[Any, int] | None = None
    self._literals: dict[int, Dims] = {}
    self.constants: dict[Any, np.ndarray | None] = {}
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


def closed(jaxpr: Any) -> tuple[Any, Any]:
  """A jaxpr and its constants, of a closed or an open one."""
  return (jaxpr.jaxpr, jaxpr.consts) if hasattr(jaxpr, 'consts') else (jaxpr, ())


def without_dead(jaxpr: Any) -> Any:
  """The jaxpr less the equations that no output depends on; it keeps all inputs."""
  used = [True] * len(jaxpr.outvars)
  return partial_eval.dce_jaxpr(jaxpr, used, instantiate=True)[0]
