"""What a primitive does with the axes of its operands: one rule each, in one table.

A rule has three sides. ``couple`` says which dimensions of operands and results are the same;
``status`` what the pruned entries of the results are, given those of the operands; ``small``
computes the results where the operands have lost entries. Without a rule, operands are frozen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from jax.extend.core import JaxprEqn
from jax.sharding import NamedSharding

from jprune.graph._axes.atoms import Dims
from jprune.graph._axes.coupled import coupled
from jprune.graph._axes.layout import Axis, Concat, Layout, New
from jprune.graph._axes.pruned import ANY, INFINITE, NAN, NEGATIVE, NULL, REAL, UNIFORM, Status
from jprune.graph._program.evaluate import bound
from jprune.graph._program.sharding import divided
from jprune.graph._program.traits import NONE, Trait, enter, has
from jprune.graph._rules.sites import CoupleSite, Equation, Site, SmallSite, StatusSite


def passed_on(site: StatusSite, ins: list[Status]) -> list[Status]:
  """Entries are moved, or combined along other axes: the worst of what has the atom."""
  default = max((status.default for status in ins), default=UNIFORM)
  outs = []
  for var in site.eqn.outvars:
    of = {}
    for atom in site.prunable(var):
      having = [
        (status.of[atom], v) for status, v in zip(ins, site.eqn.invars) if atom in status.of
      ]
      times = site.times(var, atom)
      same = times == 1 or all(site.times(v, atom) == times for _, v in having)
      worst = max((each for each, _ in having), default=default)
      of[atom] = worst if same else max(ANY, worst)
    outs.append(Status(default, of))
  return outs


def same_params(site: SmallSite, xs: list[Any], **instead: Any) -> list[Any]:
  """The primitive as it is, or with other params: its shapes follow from those of the operands.

  Where it names a sharding that is part of the result's type, it must divide the small shape.
  """
  for name, value in site.params.items():
    if isinstance(value, NamedSharding) and not value.mesh.are_all_axes_auto:
      instead[name] = divided(value, site.small_shape(site.outs()[0]))
  return bound(site.eqn, xs, instead)


class Sides(NamedTuple):
  """The axes of an operand of a product by what is done along them.

  Attributes:
    batch: products are made side by side along them.
    inputs: it is summed over them.
    window: it is summed over them, as places of a window.
    outputs: the result has them.
    groups: by which group of rows they are taken.
  """

  batch: tuple[int, ...] = ()
  inputs: tuple[int, ...] = ()
  window: tuple[int, ...] = ()
  outputs: tuple[int, ...] = ()
  groups: tuple[int, ...] = ()


SizeOf: TypeAlias = Callable[[int | None, int], int]
"""The size of an axis: of an operand, or of the result under ``None``."""


Range: TypeAlias = Callable[[Site, Sequence[int]], int]
"""From what entries of the operands may be, as bits, to what those of the results may be."""


class Multiplies(NamedTuple):
  """How a primitive multiplies and adds.

  Attributes:
    form: ``'matrices'``; ``'groups'`` of rows, each by a matrix of its own; or ``'windows'``.
    sides: of an equation and the number of an operand, its axes by what is done along them.
    count: of an equation, its multiply-adds.
    kernel: the operand that slides over the other one, if there is such.
  """

  form: str
  sides: Callable[[Equation, int], Sides]
  count: Callable[[Equation, SizeOf], int]
  kernel: int | None = None


class Joins(NamedTuple):
  """How results over some of the entries that are reduced become one.

  Attributes:
    combine: of two results.
    repeated: the result over so many entries that are all alike, from that over one.
    picks: whether it is one of the entries, whose derivative entries that tie share.
  """

  combine: Callable[[Any, Any], Any]
  repeated: Callable[[Any, int], Any] = lambda one, times: one
  picks: bool = False


def _never(eqn: Equation) -> None:
  """No operand of it is ever inverted."""


@dataclasses.dataclass(frozen=True)
class Rule:
  """All that is known of a primitive.

  Attributes:
    couple: which dimensions of operands and results are the same.
    status: what the pruned entries of the results are, given those of the operands.
    small: the results where the operands have lost entries.
    layout: how the axes of results are made of those of operands, as data; ``None`` where only
      ``couple`` knows, as of calls and of what is indexed by what is computed.
    multiplies: how it multiplies and adds, if it does.
    ranges: what entries of the results may be, given that of the operands, as bits; ``None`` where
      they may be of either sign, and infinite only where an operand is.
    fills: what is written where an index is out of range; ``None`` if nothing is.
    inverts: of an equation, the operand that is zero where it divides by zero, if there is one.
    indices: from which operand on there are indices, at which entries are read or written.
    reorders: of an equation, the axes of its results along which entries come in another order, or
      in one of their own.
    joins: how results over some of what it reduces become one.
    places: of an equation that looks up, where the axes of its operand are in its result; and which
      axes of that are those of its indices.
  """

  couple: Callable[[CoupleSite, list[Dims]], list[Dims]]
  status: Callable[[StatusSite, list[Status]], list[Status]] = passed_on
  small: Callable[[SmallSite, list[Any]], list[Any]] = same_params
  layout: Callable[[Equation], Layout | None] | None = None
  multiplies: Multiplies | None = None
  ranges: Range | None = None
  fills: Callable[[Equation], Any] | None = None
  inverts: Callable[[Equation], int | None] = _never
  indices: int | None = None
  reorders: Callable[[Equation], Sequence[int]] | None = None
  joins: Joins | None = None
  places: Callable[[Equation], tuple[dict[int, int], list[int]]] | None = None


RULES: dict[str, Rule] = {}


def rule(
  names: str,
  couple: Callable[[CoupleSite, list[Dims]], list[Dims]] | None = None,
  status: Callable[[StatusSite, list[Status]], list[Status]] = passed_on,
  small: Callable[[SmallSite, list[Any]], list[Any]] = same_params,
  layout: Callable[[Equation], Layout | None] | None = None,
  traits: Trait = NONE,
  **more: Any,
) -> None:
  """Enters a rule for the primitives of these names: by what couples it, or by its layout.

  Args:
    names: with spaces between them.
    couple: as for :class:`Rule`; by default it follows from the layout.
    status: as for :class:`Rule`.
    small: as for :class:`Rule`.
    layout: as for :class:`Rule`.
    traits: what else is true of the primitives.
    **more: the other attributes of a :class:`Rule`.
  """
  if couple is None:
    # Without a layout for each of its forms a rule brings a `couple`.
    of = cast(Callable[[Equation], Layout], layout)
    couple = lambda site, ins: coupled(site, of(site), ins)
  for name in names.split():
    RULES[name] = Rule(couple, status, small, layout, **more)
    enter(name, traits)


def layout_of(eqn: Equation) -> Layout | None:
  """How an equation lays out axes; ``None`` where its rule has no layout for it."""
  found = RULES.get(eqn.name)
  return None if found is None or found.layout is None else found.layout(eqn)


def places_of(eqn: JaxprEqn) -> tuple[dict[int, int], list[int]]:
  """Where an equation that looks up has the axes of its operand, and those of its indices."""
  return cast(Callable[..., Any], RULES[eqn.primitive.name].places)(Equation(eqn))


def multiplies(eqn: JaxprEqn) -> Multiplies | None:
  """How an equation multiplies and adds; ``None`` if it doesn't."""
  found = RULES.get(eqn.primitive.name)
  return None if found is None else found.multiplies


def product(eqn: JaxprEqn) -> Multiplies:
  """How an equation multiplies and adds that is known to do so."""
  return cast(Multiplies, multiplies(eqn))


def sides(eqn: JaxprEqn, operand: int) -> Sides:
  """The axes of an operand of a product by what is done along them."""
  return product(eqn).sides(Equation(eqn), operand)


def scales(eqn: JaxprEqn, operand: int) -> bool:
  """Whether an equation multiplies an operand, or divides it, by the other one."""
  return has(eqn, Trait.SCALES) and inverted(eqn) != operand


def inverted(eqn: JaxprEqn) -> int | None:
  """The operand that is zero where an equation divides by zero, if there is one."""
  found = RULES.get(eqn.primitive.name)
  return None if found is None else found.inverts(Equation(eqn))


def permutation(eqn: Any) -> tuple[int, ...] | None:
  """The axis of the operand that each axis of the result is, if an equation only reorders axes."""
  if not has(eqn, Trait.MOVES) or len(eqn.invars) != 1 or has(eqn, Trait.ELEMENTWISE):
    return None
  layout = layout_of(Equation(eqn))
  if layout is None:
    return None
  (axes,) = layout.results
  order = tuple(expr.index for expr in axes if isinstance(expr, Axis))
  return order if sorted(order) == list(range(len(eqn.invars[0].aval.shape))) else None


def joint(eqn: JaxprEqn) -> int:
  """The axis along which an equation lays its operands side by side."""
  (axes,) = cast(Layout, layout_of(Equation(eqn))).results  # all that joins has one
  return next(i for i, expr in enumerate(axes) if isinstance(expr, (Concat, New)))


# --------------------------------------------------------------------- what results may be, as bits


def either(site: Site, flags: Sequence[int]) -> int:
  """Whatever one of the operands may be."""
  out = 0
  for each in flags:
    out |= each
  return out


def unknown(site: Site, flags: Sequence[int]) -> int:
  """Of either sign, and infinite only where an operand is."""
  return indefinite(either(site, flags)) | REAL


def indefinite(x: int) -> int:
  """Infinities that meet, or meet zero, and their sine are NaN."""
  return x | NAN if x & INFINITE else x


def summed(site: Site, flags: Sequence[int]) -> int:
  """Sums of numbers of both signs may be zero, and so are those of none."""
  out = indefinite(either(site, flags))
  return out | NULL if out & NEGATIVE or is_empty(site) else out


def multiplied(site: Site, flags: Sequence[int]) -> int:
  """Of numbers of both signs, zero as well, and NaN where infinities meet zeros."""
  return indefinite(either(site, flags)) | NULL


def powers(site: Site, flags: Sequence[int]) -> int:
  """As often multiplied by itself."""
  return indefinite(flags[0])


def largest(site: Site, flags: Sequence[int]) -> int:
  """One of the entries, infinite where there is none."""
  return flags[0] | (REAL | INFINITE if is_empty(site) else 0)


def window(site: Site, flags: Sequence[int]) -> int:
  """Some entries, also none."""
  return either(site, flags) | REAL | INFINITE


def no_sign(site: Site, flags: Sequence[int]) -> int:
  """Zero or one, or whatever else is neither negative nor infinite."""
  return NULL


def is_empty(site: Site) -> bool:
  """Whether the first operand has no entries."""
  return 0 in site.in_shapes[0]
