"""A leaf that stays in its file until it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jprune._entry import InFile
from jprune.io._boxes import Box, box_of

Read = Callable[[Box | None], tuple[np.ndarray, np.ndarray | None]]
"""Values and mask in a box, ``None`` being the whole leaf; in new memory each time."""


class LazyArray(InFile):
  """A leaf of a checkpoint that :func:`jprune.io.open` opened: known by its shape, read on demand.

  It is a leaf of a tree like any other and has what functions of shapes ask for, so that
  ``jax.eval_shape``, ``jax.make_jaxpr`` and :func:`jprune.graph.channels` take a tree of them as
  it is. ``np.asarray(leaf)`` and ``jnp.asarray(leaf)`` read it. Nothing is cached: what was read
  is freed with the last reference to it.

  Attributes:
    path: canonical leaf path.
    shape: tuple of ints.
    dtype: NumPy dtype, of ``ml_dtypes`` for bfloat16 and float8.

  Examples:
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   path = os.path.join(folder, 'model.safetensors')
    ...   jprune.save(path, {'w': jnp.arange(6.0).reshape(3, 2)})
    ...   with jprune.io.open(path) as model:
    ...     leaf = model.params['w']
    ...     print(leaf, leaf.size, leaf[1], leaf.read())
    LazyArray('w', float32[3, 2]) 6 [2. 3.] [[0. 1.]
     [2. 3.]
     [4. 5.]]
  """

  def __init__(self, path: str, shape: tuple[int, ...], dtype: Any, read: Read):
    self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
    self._read = read

  @property
  def ndim(self) -> int:
    """Number of axes."""
    return len(self.shape)

  @property
  def size(self) -> int:
    """Number of weights, exact at any size."""
    return math.prod(self.shape)

  @property
  def nbytes(self) -> int:
    """Bytes that it takes in memory."""
    return self.size * self.dtype.itemsize

  def read(self, index: Any = None) -> np.ndarray:
    """The values, or a part of them, exactly 0.0 where they were pruned.

    Only that part is read, give or take what lies between short pieces of it; of a leaf that is
    stored as a bitmask whole steps of the first axis, of one stored as positions all of it.
    Checksums are of whole leaves, and are looked at where a leaf is read whole.

    Args:
      index: an int, a slice, or a tuple of them, as NumPy has it; ``None`` for all values.

    Returns:
      A NumPy array of its own memory.

    Raises:
      IndexError: if ``index`` lies outside of the leaf, or is of another kind.
      ValueError: if the file is damaged there or was closed, or the leaf doesn't fit into memory.

    Examples:
      See :class:`LazyArray`; ``leaf[i]`` is ``leaf.read(i)``.
    """
    if index is None:
      return self._read(None)[0]
    box, inner = box_of(self.shape, index)
    whole = all(part.stop - part.start == n for part, n in zip(box, self.shape))
    return np.asarray(self._read(None if whole else box)[0][inner], order='C')

  def read_masked(self) -> tuple[np.ndarray, np.ndarray | None]:
    """All values, and the mask if the file holds one, by one read.

    Returns:
      ``(values, mask)``; the mask is a bool for each weight, or ``None``.

    Raises:
      ValueError: as :meth:`read`.

    Examples:
      >>> import os, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...   path = os.path.join(folder, 'model.safetensors')
      ...   jprune.save(path, {'w': jnp.ones(3)}, {'w': jnp.array([True, False, True])})
      ...   with jprune.io.open(path) as model:
      ...     model.params['w'].read_masked()
      (array([1., 0., 1.], dtype=float32), array([ True, False,  True]))
    """
    return self._read(None)

  def __getitem__(self, index: Any) -> np.ndarray:
    return self.read(index if isinstance(index, tuple) else (index,))

  def __len__(self) -> int:
    if not self.shape:
      raise TypeError('len() of a leaf without axes')
    return self.shape[0]

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    if copy is False:
      raise ValueError(f"'{self.path}' is in a file, and can only be copied")
    values = self.read()
    return values if dtype is None else values.astype(dtype)

  def __repr__(self) -> str:
    return f"LazyArray('{self.path}', {self.dtype.name}{list(self.shape)})"
