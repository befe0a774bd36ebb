"""The channel graph: what a traced function ties together, as groups."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jprune import _checks
from jprune._entry import public
from jprune.graph import _errors
from jprune.graph._analysis.multiply_adds import total_macs
from jprune.graph._analysis.traced import Traced
from jprune.graph._axes.atoms import Atom, Family
from jprune.graph._axes.sizes import Sizes
from jprune.graph._axes.units import layout, numbered
from jprune.graph._channels import html, plot, text
from jprune.graph._channels.groups import Group, Member, Position
from jprune.graph._channels.keeping import without
from jprune.graph._channels.readers import readers
from jprune.graph._channels.readonly import ReadOnly
from jprune.graph._channels.reasons import ties, why_frozen
from jprune.graph._program.outputs import Filter
from jprune.typing import Params, Where

if TYPE_CHECKING:
  from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class ChannelGraph:
  """Which slices of which leaves live and die together, and what must stay.

  ``str()`` is a table as wide as the terminal; notebooks show it as HTML.

  Attributes:
    groups: the channel groups, in tree order.
    frozen: for each ``(path, axis)`` of which something can't be pruned: why, with the source line.
    leaves: shape and dtype of every leaf by path, in tree order.
    treedef: structure of the params.
    unsupported: primitives that the analysis doesn't know, with how often they occur; their
      operands are frozen.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.ones((3, 8)), 'out': jnp.ones((8, 2))}
    >>> graph = jprune.graph.channels(fn, params, jnp.ones((1, 3)))
    >>> [(group.name, group.size) for group in graph.groups]
    [('in[1]', 8)]
    >>> [(member.path, member.axis) for member in graph.groups[0].members]
    [('in', 1), ('out', 0)]
  """

  groups: tuple[Group, ...]
  frozen: Mapping[tuple[str, int], str]
  leaves: Mapping[str, jax.ShapeDtypeStruct]
  treedef: Any
  unsupported: Mapping[str, int]
  _traced: Traced
  _units: tuple[tuple[Atom, ...], ...]

  @property
  def dims(self) -> dict[str, Any]:
    """The dimensions of every leaf, in the terms of the analysis."""
    return dict(zip(self._traced.paths, self._traced.dims))

  @property
  def states(self) -> list[int | None]:
    """For each result of the function, the place of the param whose new value it is."""
    return self._traced.states

  def made_of(self, leaves: Sequence[Any]) -> bool:
    """Whether these are the very arrays that the function was traced with.

    Args:
      leaves: one for each leaf of the params, in tree order.

    Returns:
      A bool; ``False`` if it was traced with shapes.
    """
    own = [ref and ref() for ref in self._traced.arrays]
    return all(a is not None and a is b for a, b in zip(own, leaves, strict=True))

  @functools.cached_property
  def readers(self) -> tuple[frozenset[str], ...]:
    """For each group, the leaves that only read its channels, as far as is known."""
    return readers(self._traced, self._units)

  def keeping(self, keep: Where) -> ChannelGraph:
    """The graph without the groups that have a member in some leaves, which stay whole.

    Args:
      keep: which leaves: any kind of :data:`jprune.typing.Where`; a regular expression is searched
        for in all paths.

    Returns:
      A graph in which the axes of these groups are frozen, with the reason ``'kept'``.

    Raises:
      ValueError: if ``keep`` names no leaf.

    Examples:
      >>> fn = lambda p, x: jax.nn.relu(jax.nn.relu(x @ p['stem']) @ p['mid']) @ p['head']
      >>> params = {'stem': jnp.ones((3, 8)), 'mid': jnp.ones((8, 6)), 'head': jnp.ones((6, 2))}
      >>> graph = jprune.graph.channels(fn, params, jnp.ones((1, 3)))
      >>> kept = graph.keeping('stem')
      >>> [group.name for group in kept.groups], kept.frozen['mid', 0]
      (['mid[1]'], "kept, as part of 'stem[1]'")
    """
    return without(self, keep)

  def params_at(self, kept: Sequence[np.ndarray] | None = None) -> int:
    """Number of weights that are left, over all leaves.

    Args:
      kept: for each group a bool array of its size, ``True`` = keep; ``None``: all are kept.

    Returns:
      A Python int.

    Raises:
      ValueError: if there are more or fewer, or one is of another shape.
    """
    sizes = self._sizes('params_at', kept)
    return sum(math.prod(sizes.small_size(dim) for dim in dims) for dims in self._traced.dims)

  def macs_at(self, kept: Sequence[np.ndarray] | None = None) -> int:
    """Number of multiply-adds that are left, for inputs of the traced shapes.

    Args:
      kept: for each group a bool array of its size, ``True`` = keep; ``None``: all are kept.

    Returns:
      A Python int.

    Raises:
      ValueError: if there are more or fewer, or one is of another shape.
    """
    return total_macs(self._traced.frame, self._sizes('macs_at', kept))

  def _sizes(self, function: str, kept: Sequence[np.ndarray] | None) -> Sizes:
    if kept is None:
      return Sizes({})
    if len(kept) != len(self.groups):
      raise _errors.bad_kept(function, len(self.groups), f'{len(kept)} of them')
    for group, keep in zip(self.groups, kept):
      if np.shape(keep) != (group.size,):
        got = f"shape {np.shape(keep)} for the {group.size} units of '{group.name}'"
        raise _errors.bad_kept(function, len(self.groups), got)
    return Sizes(self.keeps(kept))

  def keeps(self, kept: Sequence[np.ndarray]) -> dict[Atom, np.ndarray]:
    """The same by atom."""
    out: dict[Atom, np.ndarray] = {}
    for atoms, keep in zip(self._units, kept, strict=True):
      keep = np.asarray(keep, bool)
      if len(atoms) == 1 and atoms[0].size > 1:
        out[atoms[0]] = keep
      else:
        out |= {atom: keep[i : i + 1] for i, atom in enumerate(atoms)}
    return out

  def to_dict(self) -> dict[str, Any]:
    """Everything as plain, JSON-serialisable Python values.

    Returns:
      ``{'groups': [...], 'frozen': [...], 'unsupported': {...}}``; a member's ``units`` is ``None``
      where unit ``i`` is index ``i``.
    """
    return text.as_dict(self)

  def plot(self, ax: Axes | None = None) -> Axes:
    """Draws which leaves hang together: a row for each leaf axis, a column for each group.

    Args:
      ax: matplotlib axes to draw into; by default a new figure, as large as the graph needs.

    Returns:
      The axes; ``axes.figure.savefig(...)`` writes them. Nothing is shown.

    Raises:
      ImportError: if matplotlib isn't installed.
    """
    return plot.draw(self, ax)

  def __str__(self) -> str:
    return text.text(self)

  def __repr__(self) -> str:
    return f'ChannelGraph({text.summary(self)})'

  def _repr_html_(self) -> str:
    return html.html(self)


@public
def channels(
  fn: Callable[..., Any],
  params: Params,
  *args: Any,
  small_outputs: Filter = None,
  **keywords: Any,
) -> ChannelGraph:
  """Finds the channels of any function: slices of leaves that can only go together.

  The function is traced, not run: shapes are enough, and every kind of model is the same to it. An
  axis for which it can't be shown that leaving channels out is exact is frozen, with the reason.

  Args:
    fn: ``fn(params, *args)``, any function that ``jax.jit`` takes; for example linen's
      ``model.apply``, or the function of :func:`jprune.nnx.functional`. A result with the path
      (after some first keys), the shape and the axes of a param is its new value, as those of
      ``batch_stats`` are, and shrinks with it; the axes of all others are frozen.
    params: tree of arrays or shape structs, whose axes may be pruned.
    *args: trees of arrays or shape structs; their axes are frozen.
    small_outputs: results whose axes may be pruned too, as for :func:`jprune.shrink`.
    **keywords: none; bind those of ``fn`` with ``functools.partial``.

  Returns:
    A :class:`ChannelGraph`: ``print`` it, ``.plot()`` it, or pass it to
    :func:`jprune.masks.channels`.

  Raises:
    TypeError: if ``fn`` is no function, can't be traced with these arguments, or returns something
      else than arrays; if keywords are given.
    ValueError: if the params hold no leaf, or several with one path.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.ones((3, 8)), 'out': jnp.ones((8, 2))}
    >>> print(channels(fn, params, jax.ShapeDtypeStruct((1, 3), jnp.float32)))
    1 group, 8 channels; 2 of 4 axes are frozen.
    ...
  """
  _checks.check_no_keywords('channels', keywords, ['small_outputs'])
  return graph_of(Traced('channels', fn, params, args, small_outputs=small_outputs))


def graph_of(traced: Traced) -> ChannelGraph:
  """The groups of a traced function."""
  numbers = numbered(traced.dims)
  found: dict[Any, list[Member]] = {}
  frozen: dict[tuple[str, int], str] = {}
  for path, dims in zip(traced.paths, traced.dims):
    for axis, dim in enumerate(dims):
      if why := why_frozen(dim):
        frozen[path, axis] = why
      for owner, units in layout(dim, numbers):
        found.setdefault(owner, []).append(Member(path, axis, Position(units)))
  groups, units = [], []
  for owner, members in found.items():
    atoms = tuple(numbers[owner]) if isinstance(owner, Family) else (owner,)
    size = len(atoms) if isinstance(owner, Family) else int(owner.size)
    groups.append(Group(_name(members, traced), size, tuple(members), ties(atoms)))
    units.append(atoms)
  return ChannelGraph(
    _distinct(groups),
    ReadOnly(frozen),
    ReadOnly(zip(traced.paths, traced.leaves)),
    traced.treedef,
    ReadOnly(traced.unsupported),
    traced,
    tuple(units),
  )


def _distinct(groups: list[Group]) -> tuple[Group, ...]:
  seen: dict[str, int] = {}
  out = []
  for group in groups:
    seen[group.name] = seen.get(group.name, 0) + 1
    name = group.name if seen[group.name] == 1 else f'{group.name} #{seen[group.name]}'
    out.append(dataclasses.replace(group, name=name))
  return tuple(out)


def _name(members: list[Member], traced: Traced) -> str:
  """The member that makes the channels, as a rule the last axis of a kernel."""
  shapes = dict(zip(traced.paths, traced.leaves))

  def rank(member: Member) -> tuple[int, int]:
    ndim = len(shapes[member.path].shape)
    return (0 if ndim >= 2 and member.axis == ndim - 1 else 1 if ndim >= 2 else 2, -ndim)

  member = min(members, key=rank)
  place = '' if member.position.whole else f' {member.position}'
  return f'{member.path}[{member.axis}]{place}'


# --------------------------------------------------------------------------------------- reasons
