"""Statistics of what leaves are multiplied by, and how their entries line up with it."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping

import jax

from jprune._entry import explicit
from jprune.graph import _errors
from jprune.graph._statistics import table
from jprune.graph._statistics.moments import Moments, merged


@dataclasses.dataclass(frozen=True)
class Use:
  """How a product uses a leaf: its entries, or a box of them, as matrices.

  The box is reshaped into factors, each a whole axis of the leaf or a part of one (heads, groups);
  a factor numbers the products that are made side by side, the inputs, or the outputs.

  Attributes:
    box: for each axis of the leaf, first and last + 1 index of the entries that are used.
    shape: sizes of the factors, in the order of the leaf's axes.
    axes: for each factor, the axis of the leaf that it comes from.
    batch: places of the factors that number products side by side.
    inputs: places of the factors that are contracted, in the order of the moments' inputs.
    outputs: places of the factors that number outputs.
    source: place in ``stats.inputs`` of the moments; equal for leaves that share their inputs.
    loop: number of the scan whose steps the first factor of ``batch`` counts, or ``None``.
    backwards: whether that scan starts at its last step.
    direct: whether the product multiplies by the entries themselves: moved, cast or scaled by one
      number, but not masked, added to or passed through a function.
    line: where in the user's code the product comes from, ``file.py:12``; empty if unknown.

  Examples:
    >>> fn = lambda params, x: jnp.einsum('nd,dhk->nhk', x, params['w'])
    >>> _, stats = jprune.graph.capture(fn, {'w': jnp.ones((3, 2, 4))}, jnp.ones((5, 3)))
    >>> ((use, moments),) = stats['w']
    >>> use.matrices(jnp.ones((3, 2, 4))).shape
    (1, 3, 8)
  """

  box: tuple[tuple[int, int], ...]
  shape: tuple[int, ...]
  axes: tuple[int, ...]
  batch: tuple[int, ...]
  inputs: tuple[int, ...]
  outputs: tuple[int, ...]
  source: int
  loop: int | None = None
  direct: bool = True
  line: str = ''
  backwards: bool = False

  @property
  def sizes(self) -> tuple[int, int, int]:
    """Products side by side, inputs, outputs."""
    size = lambda places: math.prod(self.shape[i] for i in places)
    return size(self.batch), size(self.inputs), size(self.outputs)

  @explicit
  def matrices(self, leaf: jax.Array) -> jax.Array:
    """The used entries of a leaf, or of an array of its shape: ``(batch, inputs, outputs)``."""
    box = leaf[tuple(slice(*bounds) for bounds in self.box)]
    order = (*self.batch, *self.inputs, *self.outputs)
    return box.reshape(self.shape).transpose(order).reshape(self.sizes)

  @explicit
  def placed(self, leaf: jax.Array, matrices: jax.Array) -> jax.Array:
    """The leaf with its used entries replaced by those of ``matrices``."""
    order = (*self.batch, *self.inputs, *self.outputs)
    factors = matrices.reshape([self.shape[i] for i in order])
    back = sorted(range(len(order)), key=order.__getitem__)
    box = factors.transpose(back).reshape([hi - lo for lo, hi in self.box])
    if box.shape == leaf.shape:
      return box
    return leaf.at[tuple(slice(*bounds) for bounds in self.box)].set(box)


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=['inputs'],
  meta_fields=['uses', 'skipped', 'notes'],
)
@dataclasses.dataclass(frozen=True, repr=False)
class Stats:
  """Statistics of the inputs of each product with a leaf, as :func:`capture` returns them.

  A pytree: it passes through ``jit``, and :meth:`merge` adds up those of several batches.
  ``stats[path]`` are the uses of a leaf, each with its :class:`Moments`; together they cover the
  leaf. ``print`` shows what was captured and what was not.

  Attributes:
    inputs: the moments, each once; leaves that are multiplied by the same values share them.
    uses: pairs of a path and its :class:`Use` s, in tree order.
    skipped: pairs of a path and the reason why nothing is known, for all other selected leaves.
    notes: pairs of a path and what else is done with a captured leaf, such as a lookup by index.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.ones((3, 8)), 'out': jnp.ones((8, 2)), 'unused': jnp.ones((2, 2))}
    >>> _, stats = jprune.graph.capture(fn, params, jnp.ones((4, 3)))
    >>> stats.paths, 'unused' in stats
    (('in', 'out'), False)
    >>> stats.skipped
    (('unused', 'fn does not use it'),)
  """

  inputs: tuple[Moments, ...]
  uses: tuple[tuple[str, tuple[Use, ...]], ...]
  skipped: tuple[tuple[str, str], ...] = ()
  notes: tuple[tuple[str, str], ...] = ()

  @property
  def paths(self) -> tuple[str, ...]:
    """Of the leaves that were captured, in tree order."""
    return tuple(path for path, _ in self.uses)

  @property
  def _by_path(self) -> Mapping[str, tuple[Use, ...]]:
    return dict(self.uses)

  def __contains__(self, path: object) -> bool:
    return path in self.paths

  def __getitem__(self, path: str) -> tuple[tuple[Use, Moments], ...]:
    found = self._by_path.get(path)
    if found is None:
      raise KeyError(_errors.words_no_stats(path, dict(self.skipped).get(path)))
    return tuple((use, self.inputs[use.source]) for use in found)

  @explicit
  def merge(self, other: Stats) -> Stats:
    """Statistics of the rows of both; they must come from the same function and leaves."""
    gram = lambda stats: [each.products is None for each in stats.inputs]
    if (self.uses, gram(self)) != (other.uses, gram(other)):
      raise _errors.other_stats('merge')
    inputs = tuple(merged(a, b) for a, b in zip(self.inputs, other.inputs))
    return dataclasses.replace(self, inputs=inputs)

  def __str__(self) -> str:
    return table.text(self)

  def __repr__(self) -> str:
    return f'Stats({len(self.uses)} leaves, {len(self.inputs)} moments)'

  def _repr_html_(self) -> str:
    return table.html(self)
