"""The walk that finds which axes belong together."""

from __future__ import annotations

from typing import Any

from jprune.graph._analysis.constant_operands import with_copies
from jprune.graph._axes.atoms import Dims, fresh_all, size_of
from jprune.graph._program.calls import call_of
from jprune.graph._program.frame import Frame, closed, without_dead
from jprune.graph._rules import control as control
from jprune.graph._rules import custom_jvp as custom_jvp
from jprune.graph._rules import custom_vjp as custom_vjp
from jprune.graph._rules import elementwise as elementwise
from jprune.graph._rules import indexing as indexing
from jprune.graph._rules import movement as movement
from jprune.graph._rules import products as products
from jprune.graph._rules import reductions as reductions
from jprune.graph._rules import writing as writing
from jprune.graph._rules.base import RULES
from jprune.graph._rules.sites import CoupleSite


class Coupling:
  """Runs the ``couple`` side of every rule, in order, down into every call.

  Attributes:
    rules_wanted: how deep derivative rules are coupled: those of the function, and those that they
      call in turn (as a rule may its own function), for second derivatives.
    in_rule: whether what is coupled is a derivative rule.
    unsupported: names of the primitives that no rule covers.
  """

  def __init__(self, rules_wanted: int = 2) -> None:
    self.rules_wanted = rules_wanted
    self.in_rule = False
    self.unsupported: dict[str, int] = {}

  def couple(self, frame: Frame, ins: list[Dims]) -> list[Dims]:
    """The dimensions of all values of a frame; returns those of its results."""
    frame.jaxpr, frame.copies = with_copies(frame.jaxpr, frame.consts)
    dims = frame.dims
    for var in frame.jaxpr.constvars:
      dims[var] = fresh_all(var.aval.shape)
    for var, found in zip(frame.jaxpr.invars, ins):
      dims[var] = found
    for index, eqn in enumerate(frame.jaxpr.eqns):
      site = CoupleSite(self, frame, index)
      outs = self._couple_one(site)
      for var, found in zip(eqn.outvars, outs):
        dims[var] = found
    return [frame.dims_of(var) for var in frame.jaxpr.outvars]

  def _couple_one(self, site: CoupleSite) -> list[Dims]:
    rule, ins, shapes = RULES.get(site.name), site.ins(), site.out_shapes
    if site.index in site.frame.copies:
      return [fresh_all(shapes[0])]
    if rule is None:
      self.unsupported[site.name] = self.unsupported.get(site.name, 0) + 1
      return self._give_up(site, ins, f'no rule for primitive {site.name}')
    try:
      with site.eqn.ctx.manager:  # rules are traced
        outs = [tuple(dims) for dims in rule.couple(site, ins)]
    except Exception as error:  # a form that the rule was not written for must never stop a user
      self.unsupported[site.name] = self.unsupported.get(site.name, 0) + 1
      return self._give_up(site, ins, f'the rule for {site.name} failed: {type(error).__name__}')
    if [tuple(map(size_of, dims)) for dims in outs] != shapes:
      return self._give_up(site, ins, f'the rule for {site.name} does not cover this form')
    return outs

  def _give_up(self, site: CoupleSite, ins: list[Dims], text: str) -> list[Dims]:
    site.freeze_all(ins, text)
    site.frame.given_up.add(site.index)
    return [fresh_all(shape, site.cause(text)) for shape in site.out_shapes]

  def couple_child(
    self,
    site: CoupleSite,
    role: Any,
    jaxpr: Any,
    ins: list[Dims],
    inline: bool = False,
    rule: bool = False,
  ) -> list[Dims]:
    """Couples a jaxpr that an equation calls, in a frame of its own."""
    inner, consts = closed(jaxpr)
    frame = Frame(without_dead(inner) if rule else inner, consts)
    frame.caller, frame.role, frame.is_rule = (site.frame, site.eqn), role, rule
    if not rule:
      given = call_of(site.eqn).given(role, site.eqn.invars)
      frame.given = {var: (site.frame, operand) for var, operand in zip(inner.invars, given)}
    if inline:
      frame.outer = (site.frame, site.index, tuple(site.eqn.invars))
    site.frame.children.setdefault(site.index, {})[role] = frame
    wanted = self.rules_wanted
    inside = self.in_rule
    self.rules_wanted, self.in_rule = wanted - rule, inside or rule
    outs = self.couple(frame, ins)
    self.rules_wanted, self.in_rule = wanted, inside
    return outs
