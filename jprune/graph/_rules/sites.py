"""What the three sides of a rule are given.

Each side knows the equation and its frame, and besides what the walk that runs it can tell: while
axes are coupled, what is one and what is frozen; then which atoms may be pruned; then what stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np

from jprune.graph._axes.atoms import Atom, Cause, Dim, Dims, freeze
from jprune.graph._axes.pruned import Status
from jprune.graph._axes.sizes import NOWHERE, World
from jprune.graph._axes.unify import unify
from jprune.graph._program.constants import constant, scalar, written
from jprune.graph._program.frame import Frame

Role: TypeAlias = str | int
"""Which of the jaxprs that an equation calls: a name, or the number of a branch."""


class Equation:
  """An equation: what there is to know of it before anything is worked out.

  A frame is asked for constants; without one there are none.
  """

  __slots__ = ('_frame', 'eqn')

  def __init__(self, eqn: Any, frame: Frame | None = None) -> None:
    self.eqn = eqn
    self._frame = frame

  @property
  def name(self) -> str:
    """Of the primitive."""
    return self.eqn.primitive.name

  @property
  def params(self) -> dict[str, Any]:
    """Of the primitive."""
    return self.eqn.params

  @property
  def in_shapes(self) -> list[tuple[int, ...]]:
    """Full shapes of the operands."""
    return [tuple(getattr(v.aval, 'shape', ())) for v in self.eqn.invars]

  @property
  def out_shapes(self) -> list[tuple[int, ...]]:
    """Full shapes of the results."""
    return [tuple(getattr(v.aval, 'shape', ())) for v in self.eqn.outvars]

  def constant(self, operand: int) -> np.ndarray | None:
    """The value of an integer operand, if it doesn't depend on the inputs."""
    return None if self._frame is None else constant(self._frame, self.eqn.invars[operand])

  def scalar(self, operand: int) -> float | None:
    """The value of an operand that is a real scalar written in the code."""
    var = self.eqn.invars[operand]
    return written(var) if self._frame is None else scalar(self._frame, var)


class Site(Equation):
  """An equation whose axes are coupled, or are about to be."""

  __slots__ = ('frame', 'index')

  def __init__(self, frame: Frame, index: int) -> None:
    super().__init__(frame.jaxpr.eqns[index], frame)
    self.frame = frame
    self.index = index

  @property
  def children(self) -> dict[Role, Frame]:
    """The frames of what it calls."""
    return self.frame.children[self.index]

  def ins(self) -> list[Dims]:
    """Dimensions of the operands."""
    return [self.frame.dims_of(v) for v in self.eqn.invars]

  def outs(self) -> list[Dims]:
    """Dimensions of the results, once they are coupled."""
    return [self.frame.dims[v] for v in self.eqn.outvars]

  def times(self, var: Any, atom: Atom) -> int:
    """At how many indices of the atom an entry of the value lies: two for ``x[:, None] * x``."""
    return self.frame.counts(var).get(atom, 0)

  def cause(self, text: str) -> Cause:
    """A cause that names this equation."""
    return Cause(text, self.eqn, self.frame)

  def freeze(self, dim: Dim, text: str) -> None:
    """Lets no index of the dimension go."""
    freeze(dim, self.cause(text))


class CoupleSite(Site):
  """What ``couple`` is given."""

  __slots__ = ('walk',)

  def __init__(self, walk: Couples, frame: Frame, index: int) -> None:
    super().__init__(frame, index)
    self.walk = walk

  def unify(self, a: Dim, b: Dim) -> None:
    """Makes two dimensions the same."""
    unify(a, b, self.cause(self.name))

  def freeze_all(self, values: Iterable[Dims], text: str) -> None:
    """Lets no index of any dimension go."""
    for dims in values:
      for dim in dims:
        self.freeze(dim, text)

  def child(
    self, role: Role, jaxpr: Any, ins: list[Dims], inline: bool = False, rule: bool = False
  ) -> list[Dims]:
    """Couples a jaxpr that the equation calls."""
    return self.walk.couple_child(self, role, jaxpr, ins, inline, rule)


class StatusSite(Site):
  """What ``status`` is given."""

  __slots__ = ('walk',)

  def __init__(self, walk: Follows, frame: Frame, index: int) -> None:
    super().__init__(frame, index)
    self.walk = walk

  def atoms_of(self, dim: Dim) -> list[Atom]:
    """The atoms of a dimension that may be pruned."""
    return self.walk.atoms_of(dim)

  def prunable(self, var: Any) -> list[Atom]:
    """The atoms of a value that may be pruned."""
    return self.walk.prunable(self.frame, var)

  def child(self, role: Role, ins: list[Status]) -> list[Status]:
    """What is known of the results of a jaxpr that the equation calls."""
    return self.walk.status_child(self, role, ins)

  def ghost(self, atom: Atom) -> bool:
    """Asks for the ghosts of the operands along an atom; whether they can be computed."""
    return self.walk.ghost(self, atom)


class SmallSite(Site):
  """What ``small`` is given."""

  __slots__ = ('run', 'walk', 'world')

  def __init__(
    self, walk: Evaluates, frame: Frame, index: int, run: FrameRun, world: World = NOWHERE
  ) -> None:
    super().__init__(frame, index)
    self.walk = walk
    self.run = run
    self.world = world

  def take(self, x: Any, dims: Dims) -> Any:
    """The entries of a value that stay."""
    return self.walk.take(x, dims, self.world)

  def keep(self, dim: Dim) -> np.ndarray | None:
    """Which indices of a dimension stay, ``None`` for all."""
    return self.walk.keep(dim, self.world)

  def small_size(self, dim: Dim) -> int:
    """How many indices of a dimension stay."""
    return self.walk.small_size(dim, self.world)

  def small_shape(self, dims: Dims) -> tuple[int, ...]:
    """The shape of what stays."""
    return tuple(self.small_size(dim) for dim in dims)

  def child(self, role: Role | Frame, xs: list[Any]) -> list[Any]:
    """The small results of a jaxpr that the equation calls, by its role or its frame."""
    return self.walk.small_child(self, role, xs)


# ----------------------------------------------------------------------------- the walks, from here


class Couples(Protocol):
  """The walk that couples axes."""

  rules_wanted: int
  in_rule: bool

  def couple_child(
    self, site: CoupleSite, role: Role, jaxpr: Any, ins: list[Dims], inline: bool, rule: bool
  ) -> list[Dims]: ...


class Follows(Protocol):
  """The walk that follows what pruned entries are."""

  def atoms_of(self, dim: Dim) -> list[Atom]: ...

  def prunable(self, frame: Frame, var: Any) -> list[Atom]: ...

  def status_child(self, site: StatusSite, role: Role, ins: list[Status]) -> list[Status]: ...

  def ghost(self, site: StatusSite, atom: Atom) -> bool: ...


class FrameRun(Protocol):
  """The values of one run of a frame."""

  values: dict[Any, Any]
  ghosts: dict[tuple[Any, World], Any]

  def outwards(self) -> Iterator[FrameRun]: ...


class Evaluates(Protocol):
  """The walk that computes what stays."""

  @property
  def keeps(self) -> Mapping[Atom, np.ndarray]: ...

  def keep(self, dim: Dim, world: World) -> np.ndarray | None: ...

  def small_size(self, dim: Dim, world: World) -> int: ...

  def take(self, x: Any, dims: Dims, world: World) -> Any: ...

  def small_child(self, site: SmallSite, role: Role | Frame, xs: list[Any]) -> list[Any]: ...

  def couple_later(
    self,
    site: SmallSite,
    couple: Callable[[CoupleSite, list[Dims], list[Dims]], None],
    status: Callable[[StatusSite, list[Status]], list[Status]],
  ) -> None: ...
