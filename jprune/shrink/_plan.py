"""Which indices of which axes stay: what turns full trees into small ones, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jprune import _checks, tree
from jprune.graph._fold import plural
from jprune.masks import PackedMask, pack
from jprune.shrink import _match, _table
from jprune.shrink._slice import expanded, sliced

_FORMAT = 1


@dataclasses.dataclass(frozen=True, repr=False)
class Plan:
  """What shrinking leaves out; immutable, and plain data.

  Attributes:
    shapes: full shape of every leaf, by path, in tree order.
    kept: by leaf path and axis, the indices that stay, ascending; axes that lose nothing are left
      out.
    groups: for each channel group its name, its size, and how many units stay.
    frozen: for each ``(path, axis)`` of which something had to stay: why.

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

  def slice(self, other: Any) -> Any:
    """The entries that stay, of any tree that mirrors the params or parts of them.

    A leaf belongs to the param with which it shares the most keys at the end of its path, and whose
    shape it has: optimizer states, averages of the params, masks, ``batch_stats``. Factored moments
    (a param's shape less one axis) are sliced along the axes that they have. Scalars, and leaves
    that belong to no param, stay as they are.

    Args:
      other: tree of arrays, shape structs or packed masks.

    Returns:
      A tree of the same structure; dtypes and, where it divides the axes, shardings are kept.

    Raises:
      ValueError: if a leaf could belong to several params that lose different indices, or has the
        path of a param but not its shape.
    """
    return self._map('slice', other, self.shapes, lambda leaf, axes, _: sliced(leaf, axes))

  def expand(self, small: Any) -> Any:
    """The inverse of :meth:`slice`: zeros (in masks ``False``) stand where nothing was kept.

    Args:
      small: tree of arrays that mirrors the small params or parts of them.

    Returns:
      A tree of the same structure, with full shapes.

    Raises:
      ValueError: as for :meth:`slice`.
    """
    shapes = {path: self.small_shape(path) for path in self.shapes}
    return self._map('expand', small, shapes, expanded)

  def _map(self, function: str, other: Any, shapes: Mapping[str, Any], change: Any) -> Any:
    is_leaf = lambda leaf: isinstance(leaf, PackedMask)
    paths, leaves, treedef = tree.flatten(other, is_leaf)
    places = _match.places(f'plan.{function}', paths, leaves, shapes, self.kept)
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
      ``{'format': 1, 'shapes': {...}, 'kept': {...}, 'groups': [...], 'frozen': [...]}``.
    """
    return {
      'format': _FORMAT,
      'shapes': {path: list(shape) for path, shape in self.shapes.items()},
      'kept': {p: {str(a): list(kept) for a, kept in k.items()} for p, k in self.kept.items()},
      'groups': [list(group) for group in self.groups],
      'frozen': [[path, axis, why] for (path, axis), why in self.frozen.items()],
    }

  @classmethod
  def from_dict(cls, data: Mapping[str, Any]) -> Plan:
    """The plan that :meth:`to_dict` has written.

    Args:
      data: what :meth:`to_dict` returns.

    Returns:
      An equal plan.

    Raises:
      ValueError: if it is something else, or of a newer version.
    """
    if not isinstance(data, Mapping) or data.get('format') != _FORMAT:
      raise _checks.foreign_plan('Plan.from_dict', data)
    return cls(
      {path: tuple(shape) for path, shape in data['shapes'].items()},
      {p: {int(a): tuple(kept) for a, kept in k.items()} for p, k in data['kept'].items()},
      tuple((name, size, kept) for name, size, kept in data['groups']),
      {(path, axis): why for path, axis, why in data['frozen']},
    )

  def __str__(self) -> str:
    return _table.text(self)

  def __repr__(self) -> str:
    full, small = self.size
    return f'Plan({small:,} of {full:,} weights, {plural(len(self.groups), "group")})'

  def _repr_html_(self) -> str:
    return _table.html(self)


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
