"""A leaf's scores, a chunk at a time: float32, none of them negative."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32

from jprune._cli import _errors
from jprune.scores._random import _words as words

CHUNK = 2**20  # weights; a few arrays of this size are all that counting adds to a leaf

Chunk = Callable[[int, int], np.ndarray]
"""``(begin, end) -> scores`` of the weights between two flat indices."""


def magnitude(path: str, values: np.ndarray, scales: Chunk | None = None) -> Chunk:
  """``jprune.scores.magnitude`` of an array; of quantised weights as their scales have them."""
  flat = values.reshape(-1)

  def chunk(begin: int, end: int) -> np.ndarray:
    with np.errstate(over='ignore'):  # a float64 beyond float32 is infinite, as in JAX
      found = np.abs(flat[begin:end].astype(np.float32))
      if scales is not None:
        found *= scales(begin, end)
    if np.isnan(np.max(found, initial=0)):
      raise _errors.weight_is_nan(path)
    return found

  return chunk


def random(paths: list[str], seed: int) -> Callable[[int, int], Chunk]:
  """``jprune.scores.random``, which goes by the leaves' paths and shapes alone.

  JAX numbers the weights of a leaf and hashes each number, so that any range can be drawn by
  itself. Where it is set to draw otherwise, which the first few weights tell, a leaf is drawn
  as a whole, at several times its size.

  Args:
    paths: of all leaves, in the order of the tree.
    seed: of the key.

  Returns:
    ``(which of the paths, size of that leaf) -> its scores``.
  """
  fold = jax.vmap(jax.random.fold_in, (None, 0))
  folded = np.asarray(jax.random.key_data(fold(jax.random.key(seed), jnp.asarray(words(paths)))))

  def whole(i: int, size: int) -> np.ndarray:
    key = jax.random.wrap_key_data(jnp.asarray(folded[i]))
    return np.asarray(jax.random.uniform(key, (size,), jnp.float32))

  in_parts = folded[0].shape == (2,) and np.array_equal(_drawn(folded[0], 0, 8), whole(0, 8))

  def scores(i: int, size: int) -> Chunk:
    if not in_parts:
      flat = whole(i, size)
      return lambda begin, end: flat[begin:end]
    return lambda begin, end: np.concatenate(
      [_drawn(folded[i], b + begin, e + begin) for b, e in ranges(end - begin)]
    )

  return scores


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
