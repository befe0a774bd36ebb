"""Values that wait outside of the devices: in the memory of the host, or in files."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_SMALL = 1 << 12  # bytes, below which a file isn't worth it


class Caches:
  """Where values wait; files are deleted when it is closed.

  Attributes:
    folder: of the files; ``None`` keeps all in memory.
  """

  def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
    self._folder = None if folder is None else tempfile.TemporaryDirectory(dir=folder)
    self._numbers = itertools.count()

  def __enter__(self) -> Caches:
    return self

  def __exit__(self, *_: Any) -> None:
    if self._folder is not None:
      self._folder.cleanup()

  def keep(self, x: Any) -> Cached:
    """Takes a value over, shard by shard; ``Cached.get`` gives it back where it lay."""
    if not isinstance(x, jax.Array):
      held = self._held(np.array(x))  # a copy: loaders may fill one buffer again and again
      return Cached(lambda: jnp.asarray(held.get()), [held])
    if jnp.issubdtype(x.dtype, jax.dtypes.extended):  # keys, which are small
      return Cached(lambda: x, [])
    shards = {str(shard.index): shard for shard in x.addressable_shards}  # one of each copy
    parts = {index: self._held(np.asarray(shard.data)) for index, shard in shards.items()}
    if len(x.sharding.device_set) > 1:
      shape, sharding = x.shape, x.sharding
      of = lambda index: parts[str(index)].get()
      return Cached(lambda: jax.make_array_from_callback(shape, sharding, of), list(parts.values()))
    (held,) = parts.values()
    where = x.sharding if x.committed else None
    return Cached(
      lambda: jnp.asarray(held.get()) if where is None else jax.device_put(held.get(), where),
      [held],
    )

  def _held(self, x: np.ndarray) -> _Held:
    if self._folder is None or x.nbytes < _SMALL:
      return _Held(x)
    path = os.path.join(self._folder.name, str(next(self._numbers)))
    x.tofile(path)
    return _Held(None, path, x.dtype, x.shape)


class _Held:
  """An array of the host, or the file that it is in."""

  def __init__(
    self,
    array: np.ndarray | None,
    path: str = '',
    dtype: Any = None,
    shape: tuple[int, ...] = (),
  ) -> None:
    self._array, self._path, self._dtype, self._shape = array, path, dtype, shape

  def get(self) -> np.ndarray:
    if self._array is not None:
      return self._array
    return np.fromfile(self._path, self._dtype).reshape(self._shape)

  def drop(self) -> None:
    self._array = None
    if self._path:
      os.unlink(self._path)


class Cached:
  """A value that waits."""

  def __init__(self, get: Callable[[], Any], parts: list[_Held]) -> None:
    self.get = get
    self._parts = parts

  def drop(self) -> None:
    """Lets go of it."""
    for part in self._parts:
      part.drop()
