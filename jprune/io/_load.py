"""A file, or the files of a folder, to params and masks."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jprune import _checks, tree
from jprune._entry import explicit
from jprune.io import _container, _errors, _leaf, _memory, _shards, _structure
from jprune.io._boxes import box_of
from jprune.io._read import read as read
from jprune.io._read import read_part
from jprune.io._shards import Files
from jprune.io._writer import CHECKSUM, KEY, VERSION
from jprune.masks._pack import pack_leaf
from jprune.typing import Masks, Params


@explicit
def load(path: str | os.PathLike[str], like: Params | None = None) -> tuple[Params, Masks]:
  """Loads what :func:`save` saved: params, exactly 0.0 where they were pruned, and masks.

  Dicts, lists, tuples and ``None`` come back as they were. A file can't name other containers
  (``FrozenDict``, ``nnx.State``, dataclasses, named tuples): pass a tree that has them as
  ``like``, else they come back as plain dicts, with the keys or field names that the leaf paths
  show.

  Args:
    path: of a file that :func:`save` wrote; of several files their folder, or their index.
    like: tree with the leaf paths of the saved params: params, or shape structs as
      ``jax.eval_shape`` gives them. Shapes and dtypes must be those of the file; shardings of
      shape structs and of committed arrays are followed, by params and masks.

  Returns:
    ``(params, masks)``, leaves ``jax.Array`` on the default device unless ``like`` says
    otherwise. A mask leaf is bool, packed, or ``None``, as it was; ``masks`` is ``None`` if the
    file was saved without.

  Raises:
    ImportError: if safetensors is not installed.
    FileNotFoundError: if there is no such file, or one of several is missing.
    OSError: if it can't be read.
    ValueError: if a file is truncated, damaged, or not written by :func:`save`, or if it is a
      pipe or a device; if an index is missing or doesn't fit its files; if the leaves don't fit
      into memory; if ``like`` does not fit them; if there are 64-bit numbers and
      ``jax_enable_x64`` is off.

  Examples:
    >>> import os, tempfile
    >>> from jprune.io import save
    >>> params = {'w': jnp.array([1.0, 2.0, 3.0]), 'b': jnp.array(4.0)}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   path = os.path.join(folder, 'sparse.safetensors')
    ...   save(path, params, {'w': jnp.array([True, False, True]), 'b': None})
    ...   params, masks = load(path)
    >>> params['w'], masks['w']
    (Array([1., 0., 3.], dtype=float32), Array([ True, False,  True], dtype=bool))
  """
  return read_all('load', path, lambda *_: like)


def read_all(
  function: str, path: Any, like: Callable[[Files, dict[str, Any]], Any]
) -> tuple[Params, Masks]:
  """Params and masks, for a caller of that name.

  Args:
    function: who asks, for the messages.
    path: of the file.
    like: what :func:`load` takes as ``like``, by the file's reader and its metadata; called before
      any leaf is read, it may refuse the file.
  """
  with _shards.opened(function, path) as reader:
    contents, plans, checksums = _contents(reader)
    order, treedef, shardings = _placement(function, like(reader, contents), plans)
    for plan in plans:
      _errors.check_x64(function, reader.path, plan.path, plan.dtype)
    here = [plan for plan, sharding in zip(plans, shardings) if not _spans(sharding)]
    _memory.check_fit(function, reader.path, here, together=jax.default_backend() == 'cpu')
    leaves = [_loaded(reader, *each) for each in zip(plans, checksums, shardings, strict=True)]
  params, masks = [leaf for leaf, _ in leaves], [mask for _, mask in leaves]
  if treedef is None:
    rebuild = lambda flat: _structure.restore(contents['tree'], flat)
  else:
    rebuild = lambda flat: treedef.unflatten([flat[i] for i in order])
  return rebuild(params), rebuild(masks) if contents['masks'] else None


def _contents(reader: Files) -> tuple[dict[str, Any], list[_leaf.Leaf], list[str]]:
  """What the metadata says, checked as far as that goes without the data."""
  text = reader.metadata.get(KEY)
  if text is None:
    raise _errors.foreign_file(reader.function, reader.path)
  if reader.metadata.get(CHECKSUM) != f'{zlib.crc32(text.encode()):08x}':
    raise _checks.damaged_file(reader.function, reader.path, 'its metadata has another checksum')
  with _damaged(reader):
    contents = json.loads(text, object_pairs_hook=_shards.unique)
    version, rows = contents['version'], contents['leaves']
    if type(version) is not int or version < 1:
      raise ValueError(f'its version is {version!r}')
  if version > VERSION:
    raise _errors.newer_file(reader.function, reader.path, version, VERSION)
  plans = []
  for row in rows if isinstance(rows, list) else ():
    with _damaged(reader, row[0] if isinstance(row, list) and row else None):
      plans.append(_leaf.parsed(row[:-1], _container.CODES))
  with _damaged(reader):
    names = [tensor.name for plan in plans for tensor in _leaf.tensors(plan)]
    _structure.restore(contents['tree'], plans)
    if not plans or not isinstance(contents['masks'], bool):
      raise ValueError('it has no leaves, or does not say whether it has masks')
    if len(names) != len(reader.spans) or set(names) != set(reader.spans):
      raise ValueError('its tensors are not those that its metadata lists')
  for plan in plans:
    with _damaged(reader, plan.path):
      for tensor in _leaf.tensors(plan):
        reader.span(tensor)
  return contents, plans, [row[-1] for row in rows]


@contextlib.contextmanager
def _damaged(reader: Files, leaf: Any = None) -> Iterator[None]:
  """What metadata that nobody can have written makes of its reader."""
  try:
    yield
  except RecursionError:
    raise _checks.damaged_file(reader.function, reader.path, 'it nests too deeply', leaf) from None
  except (ValueError, LookupError, TypeError) as error:
    detail = error if isinstance(error, ValueError) else repr(error)
    raise _checks.damaged_file(reader.function, reader.path, detail, leaf) from None


def _placement(
  function: str, like: Any, plans: list[_leaf.Leaf]
) -> tuple[list[int], Any, list[Any]]:
  """Which leaf of the file goes where in ``like``, and on which devices each one lives."""
  if like is None:
    return [], None, [None] * len(plans)
  paths, leaves, treedef = tree.flatten(like)
  number = {plan.path: i for i, plan in enumerate(plans)}
  if len(paths) != len(plans) or set(paths) != set(number):
    raise _errors.like_other_paths(function, list(number), paths)
  order = [number[path] for path in paths]
  shardings: list[Any] = [None] * len(plans)
  for i, leaf in zip(order, leaves):
    if tree.is_array(leaf):
      plan = plans[i]
      if tuple(leaf.shape) != plan.shape or leaf.dtype.name != plan.dtype:
        raise _errors.like_other_leaf(function, plan.path, leaf, plan.dtype, plan.shape)
      shardings[i] = _sharding(leaf)
  return order, treedef, shardings


def _sharding(leaf: Any) -> Any:
  """The sharding that the user chose; an uncommitted array merely lies on the default device."""
  if isinstance(leaf, jax.Array) and not getattr(leaf, 'committed', True):
    return None
  return getattr(leaf, 'sharding', None)


def _loaded(reader: Files, plan: _leaf.Leaf, checksum: str, sharding: Any) -> Any:
  """One leaf and its mask, as jax arrays."""
  try:
    if _spans(sharding):
      values, mask = _parts_on_devices(reader, plan, checksum, sharding)
    else:
      values, mask = read(reader, plan, checksum)
      values = _on_device(values, sharding)
      mask = None if mask is None else _on_device(mask, sharding)
    return values, mask if mask is None or plan.mask == 'bool' else pack_leaf(mask)
  except (MemoryError, jax.errors.JaxRuntimeError) as error:  # of the device, or of its host
    if isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error):
      raise _memory.too_large(reader.function, reader.path, plan) from None
    raise


def _on_device(array: np.ndarray, sharding: Any) -> jax.Array:
  return jax.device_put(array, sharding)  # jnp.asarray compiles something for each shape


def _spans(sharding: Any) -> bool:
  """Whether other processes have a part in a leaf."""
  return sharding is not None and not sharding.is_fully_addressable


def _parts_on_devices(
  reader: Files, plan: _leaf.Leaf, checksum: str, sharding: Any
) -> tuple[jax.Array, jax.Array | None]:
  """A leaf of which this process reads the part that spans what its devices hold."""
  places = sharding.addressable_devices_indices_map(plan.shape).values()
  boxes = [box_of(plan.shape, index)[0] for index in places]
  hull = tuple(
    slice(min(part.start for part in along), max(part.stop for part in along))
    for along in zip(*boxes)
  )
  values, mask = read_part(reader, plan, checksum, hull)

  def placed(found: np.ndarray) -> jax.Array:
    def part(index: Any) -> np.ndarray:
      box, _ = box_of(plan.shape, index)
      return found[tuple(slice(b.start - h.start, b.stop - h.start) for b, h in zip(box, hull))]

    return jax.make_array_from_callback(plan.shape, sharding, part, dtype=found.dtype)

  return placed(values), None if mask is None else placed(mask)
