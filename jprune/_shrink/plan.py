"""Which indices of which axes stay: what turns full trees into small ones, and back."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from jprune import tree
from jprune._shrink import _errors, match_paths, table
from jprune._shrink.leaves import expanded, sliced
from jprune._shrink.networks import check_one_network
from jprune._text.words import plural
from jprune.graph._channels.readonly import ReadOnly
from jprune.graph._program.outputs import Filter, chosen
from jprune.masks import PackedMask, pack

_FORMAT = 1
_ints = lambda values: tuple(operator.index(value) for value in values)


def _text(value: Any) -> str:
  if not isinstance(value, str):
    raise TypeError
  return value


_READ: dict[str, Callable[[Any], Any]] = {  # in the order of the fields of a plan
  'shapes': lambda shapes: {path: _ints(shape) for path, shape in shapes.items()},
  'kept': lambda kept: {p: {int(a): _ints(k) for a, k in axes.items()} for p, axes in kept.items()},
  'groups': lambda groups: tuple((_text(name), *_ints((n, kept))) for name, n, kept in groups),
  'frozen': lambda frozen: {
    (_text(path), operator.index(axis)): _text(why) for path, axis, why in frozen
  },
  'partly': lambda partly: {name: operator.index(units) for name, units in partly.items()},
  'zeros': operator.index,
}
_NEW = {'partly': {}, 'zeros': 0}  # entries that earlier versions didn't write


@dataclasses.dataclass(frozen=True, repr=False)
class Plan:
  """What shrinking leaves out; immutable, and plain data.

  Attributes:
    shapes: full shape of every leaf, by path, in tree order.
    kept: by leaf path and axis, the indices that stay, ascending; axes that lose nothing are left
      out.
    groups: for each channel group its name, its size, and how many units stay.
    frozen: for each ``(path, axis)`` of which something had to stay: why.
    partly: by group, how many units stay because only some of their members are pruned.
    zeros: how many of the weights that stay are masked, in channels that stay.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.arange(6.0).reshape(2, 3), 'out': jnp.ones((3, 1))}
    >>> keep = jnp.array([True, False, True])
    >>> masks = {'in': jnp.stack([keep] * 2), 'out': keep[:, None]}
    >>> plan = jprune.shrink(fn, params, masks, jnp.ones((4, 2))).plan
    >>> plan.kept
    {'in': {1: (0, 2)}, 'out': {0: (0, 2)}}
    >>> plan.slice(optax.sgd(0.1, momentum=0.9).init(params))[0].trace['in'].shape
    (2, 2)
  """

  shapes: Mapping[str, tuple[int, ...]]
  kept: Mapping[str, Mapping[int, tuple[int, ...]]]
  groups: tuple[tuple[str, int, int], ...] = ()
  frozen: Mapping[tuple[str, int], str] = dataclasses.field(default_factory=dict)
  partly: Mapping[str, int] = dataclasses.field(default_factory=dict)
  zeros: int = 0

  def __post_init__(self) -> None:
    kept = {path: ReadOnly(axes) for path, axes in self.kept.items()}
    for name in ('shapes', 'frozen', 'partly'):
      object.__setattr__(self, name, ReadOnly(getattr(self, name)))
    object.__setattr__(self, 'kept', ReadOnly(kept))

  def __hash__(self) -> int:
    return hash((frozenset(self.shapes.items()), self.groups))

  def small_shape(self, path: str) -> tuple[int, ...]:
    """Shape of a leaf after shrinking.

    Args:
      path: of the leaf.
    """
    kept = self.kept.get(path, {})
    return tuple(len(kept[i]) if i in kept else n for i, n in enumerate(self.shapes[path]))

  @property
  def size(self) -> tuple[int, int]:
    """Number of weights, full and small."""
    count = lambda shapes: sum(int(np.prod(shape, dtype=object)) for shape in shapes)
    return count(self.shapes.values()), count(self.small_shape(path) for path in self.shapes)

  def slice(self, other: Any, where: Filter = None) -> Any:
    """The entries that stay, of any tree that mirrors the params or parts of them.

    A leaf belongs to the param with which it shares the most keys at the end of its path, and whose
    shape it has: optimizer states, averages of the params, masks, ``batch_stats``. Factored moments
    (a param's shape less one axis) are sliced along the axes that they have. Scalars, and leaves
    that belong to no param, stay as they are.

    A tree of several networks whose layers have the same names is refused where it isn't plain
    which of them was shrunk: two leaves fit one param, and by their other keys neither is a copy,
    an average or an optimizer's moment of the other. ``where`` says which it is.

    Args:
      other: tree of arrays, shape structs or packed masks.
      where: which leaves mirror params, a regular expression on their paths or a predicate
        ``(path, leaf) -> bool``; the others stay as they are. By default those whose paths say so.

    Returns:
      A tree of the same structure; dtypes and, where it divides the axes, shardings are kept, and
      what wasn't committed to a device isn't.

    Raises:
      ValueError: if a leaf could belong to several params that lose different indices, or has the
        path of a param but not its shape, or is as long as all params together
        (``optax.flatten``); if there seem to be two networks; if ``where`` is a malformed regular
        expression.
      TypeError: if ``where`` is something else.
    """
    change = lambda leaf, axes, _: sliced(leaf, axes)
    return self._map('slice', other, self.shapes, change, where)

  def expand(self, small: Any, where: Filter = None) -> Any:
    """The inverse of :meth:`slice`: zeros (in masks ``False``) stand where nothing was kept.

    Args:
      small: tree of arrays that mirrors the small params or parts of them.
      where: as for :meth:`slice`.

    Returns:
      A tree of the same structure, with full shapes.

    Raises:
      ValueError: as for :meth:`slice`.
    """
    shapes = {path: self.small_shape(path) for path in self.shapes}
    return self._map('expand', small, shapes, expanded, where)

  def _map(self, name: str, other: Any, shapes: Mapping[str, Any], change: Any, where: Any) -> Any:
    is_leaf = lambda leaf: isinstance(leaf, PackedMask)
    paths, leaves, treedef = tree.flatten(other, is_leaf)
    function = f'plan.{name}'
    mirrors = [True] * len(paths)
    if where is not None:
      mirrors = chosen(function, 'where', where, paths, leaves)
    some = list(itertools.compress(paths, mirrors)), list(itertools.compress(leaves, mirrors))
    found = iter(match_paths.places(function, *some, shapes, self.kept))
    places = [next(found) if yes else None for yes in mirrors]
    if where is None:
      check_one_network(function, other, places, self.kept)
    done: dict[Any, Any] = {}
    out = []
    for leaf, place in zip(leaves, places):
      if place is None:
        out.append(leaf)
        continue
      axes = {i: self.kept[place.path][a] for i, a in place.axes if a in self.kept[place.path]}
      full = {i: self.shapes[place.path][a] for i, a in place.axes}
      key = (id(leaf), tuple(axes.items()))
      if key not in done:  # one array under two paths stays one array
        packed = is_leaf(leaf)
        new = change(leaf.unpack() if packed else leaf, axes, full)
        done[key] = pack(new) if packed else new
      out.append(done[key])
    return treedef.unflatten(out)

  def to_dict(self) -> dict[str, Any]:
    """Everything as plain, JSON-serialisable Python values; :meth:`from_dict` reads it.

    Returns:
      A dict with ``'format'``, ``'shapes'``, ``'kept'``, ``'groups'``, ``'frozen'``, ``'partly'``
      and ``'zeros'``.
    """
    return {
      'format': _FORMAT,
      'shapes': {path: list(shape) for path, shape in self.shapes.items()},
      'kept': {p: {str(a): list(kept) for a, kept in k.items()} for p, k in self.kept.items()},
      'groups': [list(group) for group in self.groups],
      'frozen': [[path, axis, why] for (path, axis), why in self.frozen.items()],
      'partly': dict(self.partly),
      'zeros': self.zeros,
    }

  @classmethod
  def from_dict(cls, data: Mapping[str, Any]) -> Self:
    """The plan that :meth:`to_dict` has written.

    Args:
      data: what :meth:`to_dict` returns.

    Returns:
      An equal plan.

    Raises:
      ValueError: if it is something else, or of a newer version.
    """
    if not isinstance(data, Mapping) or data.get('format') != _FORMAT:
      raise _errors.foreign_plan('Plan.from_dict', data)
    parts = []
    for entry, read in _READ.items():
      if entry not in data and entry not in _NEW:
        raise _errors.damaged_plan('Plan.from_dict', entry, missing=True)
      try:
        parts.append(read(data.get(entry, _NEW.get(entry))))
      except (AttributeError, TypeError, ValueError):
        raise _errors.damaged_plan('Plan.from_dict', entry, missing=False) from None
    plan = cls(*parts)
    if not all(_fits(plan, path, axes) for path, axes in plan.kept.items()):
      raise _errors.damaged_plan('Plan.from_dict', 'kept', missing=False)
    return plan

  def __str__(self) -> str:
    return table.text(self)

  def __repr__(self) -> str:
    full, small = self.size
    return f'Plan({small:,} of {full:,} weights, {plural(len(self.groups), "group")})'

  def _repr_html_(self) -> str:
    return table.html(self)


def _fits(plan: Plan, path: str, axes: Mapping[int, tuple[int, ...]]) -> bool:
  """Whether what stays of a leaf is ascending indices of axes that it has."""
  sizes = dict(enumerate(plan.shapes.get(path, ())))
  ascending = lambda ends: all(low < high for low, high in itertools.pairwise(ends))
  return all(a in sizes and ascending((-1, *kept, sizes[a])) for a, kept in axes.items())


def as_kept(kept: Mapping[str, Mapping[int, np.ndarray]]) -> dict[str, dict[int, tuple[int, ...]]]:
  """Bools over axes to the indices that stay."""
  indices = lambda keep: tuple(np.flatnonzero(keep).tolist())
  return {path: {axis: indices(k) for axis, k in axes.items()} for path, axes in kept.items()}


def as_bools(plan: Plan) -> dict[str, dict[int, np.ndarray]]:
  """The inverse of :func:`as_kept`."""
  return {
    path: {axis: _bools(plan.shapes[path][axis], kept) for axis, kept in axes.items()}
    for path, axes in plan.kept.items()
  }


def _bools(size: int, kept: Sequence[int]) -> np.ndarray:
  out = np.zeros(size, bool)
  out[list(kept)] = True
  return out
