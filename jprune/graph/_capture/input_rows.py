"""How the inputs of a product become rows: what is summed last, everything else before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune import _powers
from jprune.graph._axes.pieces import REPEATED, Piece


class AxisMove(NamedTuple):
  """What is done to a factor of what a leaf is multiplied by, as the leaf was moved along it.

  ``x @ w[::-1]`` is ``x[:, ::-1] @ w``; in general ``x @ (m @ w)`` is ``(x @ m) @ w``.

  Attributes:
    place: of the factor.
    size: number of indices of the leaf.
    order: for each index of the factor the index of the leaf, -1 if there is none.
  """

  place: int
  size: int
  order: tuple[int, ...]

  def __call__(self, x: jax.Array) -> jax.Array:
    there = [i for i in self.order if i >= 0]
    if sorted(there) == list(range(self.size)):  # nothing is added up
      return x.take(np.array([self.order.index(i) for i in range(self.size)]), axis=self.place)
    wide = jnp.moveaxis(_powers.wide(x), self.place, 0)
    kept = np.array(self.order) >= 0
    total = jnp.zeros((self.size, *wide.shape[1:]), wide.dtype)
    return jnp.moveaxis(total.at[np.array(there)].add(wide[kept]), 0, self.place)


def _moves(pieces: Sequence[Piece], first: int) -> tuple[AxisMove, ...]:
  """For the factors from a place on what is done to them; what is repeated is added up."""
  out = []
  for place, piece in enumerate(pieces, first):
    if piece.axis == REPEATED:
      out.append(AxisMove(place, 1, (0,) * piece.length))
    elif piece.order is not None:
      out.append(AxisMove(place, piece.size, piece.order))
  return tuple(out)


class Rows(NamedTuple):
  """How the other operand of a matrix product becomes ``(batch, rows, inputs)``.

  Attributes:
    shape: of its factors.
    order: their places: batch, then rows, then inputs.
    batch: how many are batch.
    rows: how many are rows.
    axes: the axes that are rows; ``None`` if some are so in part.
    moves: what is done to factors first.
  """

  shape: tuple[int, ...]
  order: tuple[int, ...]
  batch: int
  rows: int
  axes: tuple[int, ...] | None
  moves: tuple[AxisMove, ...] = ()

  def __call__(self, x: jax.Array) -> jax.Array:
    factors = x.reshape(self.shape)
    for move in self.moves:
      factors = move(factors)
    factors = factors.transpose(self.order)
    ends = self.batch, self.batch + self.rows
    parts = factors.shape[: ends[0]], factors.shape[ends[0] : ends[1]], factors.shape[ends[1] :]
    return factors.reshape([math.prod(part) for part in parts])


class Windows(NamedTuple):
  """How the input of a convolution becomes ``(groups, rows, inputs)``: its windows, unfolded.

  Inputs are ordered by channel of the group, then by place in the window.

  Attributes:
    spec: the order of the input's axes: batch, channels, places.
    window: its sizes.
    groups: of channels.
    strides: of the window.
    padding: on both sides of each axis.
    spread: by which pixels are moved apart.
    dilation: by which places in the window are.
    factors: sizes of the channels of a group and of the window, as the leaf was moved along them.
    moves: what is done to these, and to the groups.
  """

  spec: tuple[int, ...]
  window: tuple[int, ...]
  groups: int
  strides: tuple[int, ...]
  padding: tuple[tuple[int, int], ...]
  spread: tuple[int, ...]
  dilation: tuple[int, ...]
  factors: tuple[int, ...] = ()
  moves: tuple[AxisMove, ...] = ()

  def __call__(self, x: jax.Array) -> jax.Array:
    patches = lax.conv_general_dilated_patches(
      x.transpose(self.spec),
      self.window,
      self.strides,
      self.padding,
      lhs_dilation=self.spread,
      rhs_dilation=self.dilation,
      precision=lax.Precision.HIGHEST,
    )
    n, features, *places = patches.shape
    grouped = patches.reshape(n, self.groups, features // self.groups, -1).transpose(1, 0, 3, 2)
    rows = grouped.reshape(self.groups, n * math.prod(places), features // self.groups)
    if not self.moves:
      return rows
    rows = rows.reshape(*rows.shape[:2], *self.factors)
    for move in self.moves:
      rows = move(rows)
    return rows.reshape(*rows.shape[:2], math.prod(rows.shape[2:]))


Weighing: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def weighed(weights: jax.Array, how: Weighing) -> jax.Array:
  """A weight for each row."""
  shape, order, lined_up, full = how
  found = weights.reshape(shape).transpose(order).reshape(lined_up)
  return jax.numpy.broadcast_to(found, full).reshape(int(np.prod(full, dtype=np.int64)))
