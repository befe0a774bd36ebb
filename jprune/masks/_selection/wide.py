"""Exact counts past 2**32 without 64-bit integers (``jax_enable_x64`` may be off).

A wide count is a uint32 array with a last axis of two words, ``high * 2**16 + low`` with
``low < 2**16``: exact below 2**48, and 65,536 of them can be summed before a carry.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

BASE = 16
_MASK = (1 << BASE) - 1
_NARROW = 2**32 - 1  # the most that one word counts


def wide(count: jax.Array) -> jax.Array:
  """uint32 counts ``(...)`` to wide counts ``(..., 2)``."""
  return jnp.stack([count >> BASE, count & _MASK], axis=-1)


def constant(count: Any) -> np.ndarray:
  """A Python int, or NumPy's ints, as wide counts ``(..., 2)``."""
  count = np.asarray(count, np.int64)
  return np.stack([count >> BASE, count & _MASK], axis=-1).astype(np.uint32)


def value(count: Any) -> int:
  """One concrete wide count as a Python int."""
  high, low = np.asarray(count).tolist()
  return (high << BASE) + low


def carried(words: jax.Array) -> jax.Array:
  """Two words ``(..., 2)`` whose low one may have outgrown 16 bits, as a wide count."""
  high, low = words[..., 0], words[..., 1]
  return jnp.stack([high + (low >> BASE), low & _MASK], axis=-1)


def count(hits: jax.Array) -> jax.Array:
  """How many of an array of bools are true: a wide count ``(2,)``."""
  return counts([hits, ~hits])[0]


def counts(hits: Sequence[jax.Array]) -> jax.Array:
  """How many of each of two or more arrays of bools are true: wide counts ``(arrays, 2)``.

  By one reduction over whole axes, such that nothing of the arrays' size need be stored: XLA's
  CPU backend makes a tree of a sum over more than 32 elements, and stores what goes into it, but
  not of a reduction of at least two arrays at once.
  """
  shape = hits[0].shape
  if math.prod(shape) <= _NARROW:
    return wide(jnp.stack(sums(hits, range(len(shape)))))
  longest = max(range(len(shape)), key=shape.__getitem__)
  if shape[longest] > _NARROW:
    edges = [*range(0, shape[longest], _NARROW // 2 + 1), shape[longest]]
    parts = [
      counts([lax.slice_in_dim(each, *ends, axis=longest) for each in hits])
      for ends in itertools.pairwise(edges)
    ]
    return total(jnp.stack(parts), axis=0)
  summed, size = [], 1
  for axis in sorted(range(len(shape)), key=shape.__getitem__, reverse=True):
    if size * shape[axis] <= _NARROW:
      summed.append(axis)
      size *= shape[axis]
  return total(wide(jnp.stack([each.reshape(-1) for each in sums(hits, summed)])), axis=1)


def sums(hits: Sequence[jax.Array], axes: Sequence[int], dtype: Any = 'uint32') -> list[jax.Array]:
  """How many of each of some arrays of bools are true along axes, in one reduction."""
  none = np.zeros((), dtype)
  add = lambda a, b: tuple(x + y for x, y in zip(a, b))
  numbers = tuple(each.astype(dtype) for each in hits)
  return list(lax.reduce(numbers, (none,) * len(numbers), add, tuple(axes)))


def total(counts: jax.Array, axis: int) -> jax.Array:
  """Sum along an axis, counted without the words' axis and from the front."""
  size = counts.shape[axis]
  if size > 1 << BASE:
    missing = [(0, -size % (1 << BASE) if i == axis else 0) for i in range(counts.ndim)]
    parts = (*counts.shape[:axis], -1, 1 << BASE, *counts.shape[axis + 1 :])
    return total(total(jnp.pad(counts, missing).reshape(parts), axis + 1), axis)
  return carried(jnp.sum(counts, axis=axis, dtype=jnp.uint32))


def times(number: jax.Array, by: int) -> jax.Array:
  """uint32 ``(...)`` times a Python int: wide counts ``(..., 2)``, if they are below 2**48."""
  low, high = number & _MASK, number >> BASE
  digits = [jnp.uint32((by >> (BASE * i)) & _MASK) for i in range(3)]
  first, *second = low * digits[0], low * digits[1], high * digits[0]
  whole = low * digits[2] + high * digits[1] + sum(each >> BASE for each in second)
  middle = (first >> BASE) + sum(each & _MASK for each in second)
  return jnp.stack([(whole << BASE) + middle, first & _MASK], axis=-1)


def running_total(counts: jax.Array, axis: int = 0) -> jax.Array:
  """Cumulative sums of up to 65,536 wide counts along an axis, counted without the words'."""
  return carried(jnp.cumsum(counts, axis=axis, dtype=jnp.uint32))


def host_total(counts: Sequence[np.ndarray]) -> np.ndarray:
  """As :func:`total` over a list, on the host."""
  words = np.sum([count.astype(np.uint64) for count in counts], axis=0)
  whole = (words[..., 0] << np.uint64(BASE)) + words[..., 1]
  return np.stack([whole >> np.uint64(BASE), whole & np.uint64(_MASK)], -1).astype(np.uint32)


def subtract(a: jax.Array, b: jax.Array) -> jax.Array:
  """``a - b`` for ``a >= b``."""
  high = a[..., 0] - b[..., 0] - 1  # a borrow, which the carry gives back
  return carried(jnp.stack([high, a[..., 1] + (1 << BASE) - b[..., 1]], axis=-1))


def at_least(a: jax.Array, b: jax.Array) -> jax.Array:
  """``a >= b``."""
  return (a[..., 0] > b[..., 0]) | ((a[..., 0] == b[..., 0]) & (a[..., 1] >= b[..., 1]))


def equal(a: jax.Array, b: jax.Array) -> jax.Array:
  """``a == b``."""
  return (a[..., 0] == b[..., 0]) & (a[..., 1] == b[..., 1])


def approximate(a: jax.Array) -> jax.Array:
  """float32 image, for guesses only."""
  return a[..., 0].astype(jnp.float32) * (1 << BASE) + a[..., 1].astype(jnp.float32)


def least(a: jax.Array, b: jax.Array) -> jax.Array:
  """The lesser of both."""
  return jnp.where(at_least(a, b)[..., None], b, a)


def most(a: jax.Array, b: jax.Array) -> jax.Array:
  """The greater of both."""
  return jnp.where(at_least(a, b)[..., None], a, b)


def narrow(a: jax.Array) -> jax.Array:
  """uint32, saturating."""
  fits = a[..., 0] <= _MASK
  return jnp.where(fits, (a[..., 0] << BASE) | a[..., 1], jnp.uint32(2**32 - 1))


def rounded_product(fraction: jax.Array, count: Any) -> jax.Array:
  """``round(fraction * count)``, half to even, of traced fractions in [0, 1].

  The count is an int, or an array of them with the shape of the fractions.

  The fraction is a float32 (or is rounded to one); its product with the count is exact, by
  schoolbook multiplication in words of 16 bits, where float32 arithmetic would be off by up to
  ``count * 2**-24``. Fractions below 2**-8 are rounded to multiples of 2**-32 first.
  """
  f = jnp.clip(fraction.astype(jnp.float32), 0.0, 1.0)
  # fraction = one + (upper * 2**16 + lower) * 2**-32, all exact: float32 has 24 bits
  one = (f >= 1.0).astype(jnp.uint32)
  scaled = jnp.where(one == 1, 0.0, f) * 65536.0
  upper = jnp.floor(scaled)
  lower = jnp.round((scaled - upper) * 65536.0)
  words = [lower.astype(jnp.uint32), upper.astype(jnp.uint32), one]
  words[1], words[0] = words[1] + (words[0] >> BASE), words[0] & _MASK
  words[2], words[1] = words[2] + (words[1] >> BASE), words[1] & _MASK
  count = np.asarray(count, np.int64)
  digits = [((count >> (BASE * i)) & _MASK).astype(np.uint32) for i in range(3)]
  columns = [jnp.zeros_like(one) for _ in range(6)]
  for i, word in enumerate(words):
    for j, digit in enumerate(digits):
      product = word * digit  # below 2**32
      columns[i + j] += product & _MASK
      columns[i + j + 1] += product >> BASE
  for i in range(5):
    columns[i + 1] += columns[i] >> BASE
    columns[i] &= _MASK
  fraction_bits = (columns[1] << BASE) | columns[0]
  half = jnp.uint32(1 << 31)
  up = (fraction_bits > half) | ((fraction_bits == half) & (columns[2] % 2 == 1))
  high = (columns[4] << BASE) | columns[3]
  return carried(jnp.stack([high, columns[2] + up.astype(jnp.uint32)], axis=-1))


def share(fraction: Any, count: jax.Array) -> jax.Array:
  """``round(fraction * count)`` of wide counts, to the 24 bits of a float32; at most the count."""
  found = jnp.round(jnp.asarray(fraction, jnp.float32) * approximate(count))
  high = jnp.floor(found / (1 << BASE))
  words = jnp.stack([high, found - high * (1 << BASE)], axis=-1)
  return least(words.astype(jnp.uint32), count)
