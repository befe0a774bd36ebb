"""A leaf's scores, a chunk at a time: float32, none of them negative."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32

from jprune import _checks, scores
from jprune.scores._random import _words as words

CHUNK = 2**20  # weights; a few arrays of this size are all that counting adds to a leaf

Chunk = Callable[[int, int], np.ndarray]
"""``(begin, end) -> scores`` of the weights between two flat indices."""


def magnitude(path: str, values: np.ndarray) -> Chunk:
  """``jprune.scores.magnitude`` of an array."""
  flat = values.reshape(-1)

  def chunk(begin: int, end: int) -> np.ndarray:
    with np.errstate(over='ignore'):  # a float64 beyond float32 is infinite, as in JAX
      found = np.abs(flat[begin:end].astype(np.float32))
    if np.isnan(np.max(found, initial=0)):
      raise _checks.weight_is_nan(path)
    return found

  return chunk


def random(path: str, size: int, seed: int) -> Chunk:
  """``jprune.scores.random``, which goes by the leaf's path and shape alone.

  JAX numbers the weights of a leaf and hashes each number, so that any range can be drawn by
  itself. Where it is set to draw otherwise, which the first few weights tell, the leaf is drawn
  as a whole, at several times its size.
  """

  def whole(length: int) -> np.ndarray:
    alone = {path: jax.ShapeDtypeStruct((length,), np.float32)}
    return np.asarray(scores.random(alone, key=jax.random.key(seed))[path])

  folded = jax.random.fold_in(jax.random.key(seed), words([path])[0])
  data = np.asarray(jax.random.key_data(folded))
  first = whole(8)
  if data.shape != (2,) or not np.array_equal(_drawn(data, 0, 8), first):
    flat = whole(size)
    return lambda begin, end: flat[begin:end]
  return lambda begin, end: np.concatenate(
    [_drawn(data, b + begin, e + begin) for b, e in ranges(end - begin)]
  )


def _drawn(data: np.ndarray, begin: int, end: int) -> np.ndarray:
  """What ``jax.random.uniform`` draws for the weights of these numbers, in [0, 1)."""
  # powers of two, so that there are few shapes to compile
  numbers = np.arange(begin, begin + 2 ** (end - begin - 1).bit_length(), dtype=np.uint64)
  high, low = (numbers >> np.uint64(32)).astype(np.uint32), numbers.astype(np.uint32)
  bits = np.asarray(_hashed(data, np.concatenate([high, low])))[: end - begin]
  return (bits >> np.uint32(9)).astype(np.float32) * np.float32(2**-23)


@jax.jit
def _hashed(data: jax.Array, numbers: jax.Array) -> jax.Array:
  high, low = jnp.split(threefry_2x32(data, numbers), 2)
  return high ^ low


def ranges(size: int) -> Iterator[tuple[int, int]]:
  """The chunks of so many weights."""
  for begin in range(0, size, CHUNK):
    yield begin, min(begin + CHUNK, size)
