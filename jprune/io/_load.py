"""One file to params and masks."""

from __future__ import annotations

import json
import os
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune.io import _container, _leaf, _structure
from jprune.io._save import CHECKSUM, KEY, VERSION
from jprune.masks._pack import pack_leaf
from jprune.typing import Masks, Params


def load(path: str | os.PathLike[str], like: Params | None = None) -> tuple[Params, Masks]:
  """Loads what :func:`save` saved: params, exactly 0.0 where they were pruned, and masks.

  Dicts, lists, tuples and ``None`` come back as they were. The file can't name other containers
  (``FrozenDict``, ``nnx.State``, dataclasses, named tuples): pass a tree that has them as
  ``like``, else they come back as plain dicts, with the keys or field names that the leaf paths
  show.

  Args:
    path: of a file that :func:`save` wrote.
    like: tree with the leaf paths of the saved params: params, or shape structs as
      ``jax.eval_shape`` gives them. Shapes and dtypes must be those of the file; shardings of
      shape structs and of committed arrays are followed, by params and masks.

  Returns:
    ``(params, masks)``, leaves ``jax.Array`` on the default device unless ``like`` says
    otherwise. A mask leaf is bool, packed, or ``None``, as it was; ``masks`` is ``None`` if the
    file was saved without.

  Raises:
    ImportError: if safetensors is not installed.
    FileNotFoundError: if there is no such file.
    ValueError: if the file is truncated, damaged, or not written by :func:`save`; if ``like``
      does not fit it; if it holds 64-bit numbers and ``jax_enable_x64`` is off.

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
  name = _checks.as_path('load', path)
  _container.library('load')
  if not os.path.exists(name):
    raise _checks.no_file('load', name)
  with open(name, 'rb') as file:
    reader = _container.Reader('load', name, file)
    contents, plans, checksums = _contents(reader)
    order, treedef, shardings = _placement(like, plans)
    for plan in plans:
      _checks.check_x64('load', plan.path, plan.dtype)
    leaves = [_read(reader, *each) for each in zip(plans, checksums, shardings, strict=True)]
  params, masks = [leaf for leaf, _ in leaves], [mask for _, mask in leaves]
  if treedef is None:
    rebuild = lambda flat: _structure.restore(contents['tree'], flat)
  else:
    rebuild = lambda flat: treedef.unflatten([flat[i] for i in order])
  return rebuild(params), rebuild(masks) if contents['masks'] else None


def _contents(reader: _container.Reader) -> tuple[dict[str, Any], list[_leaf.Leaf], list[str]]:
  """What the metadata says, checked as far as that goes without the data."""
  text = reader.metadata.get(KEY)
  if text is None:
    raise _checks.foreign_file(reader.function, reader.path)
  if reader.metadata.get(CHECKSUM) != f'{zlib.crc32(text.encode()):08x}':
    raise _checks.damaged_file(reader.function, reader.path, 'its metadata has another checksum')
  try:
    contents = json.loads(text)
    if contents['version'] > VERSION:
      raise _checks.newer_file(reader.function, reader.path, contents['version'], VERSION)
  except (json.JSONDecodeError, LookupError, TypeError) as error:
    raise _checks.damaged_file(reader.function, reader.path, repr(error)) from None
  try:
    rows = contents['leaves']
    plans = [_leaf.parsed(row[:-1], _container.CODES) for row in rows]
    names = {tensor.name for plan in plans for tensor in _leaf.tensors(plan)}
    _structure.restore(contents['tree'], plans)
    if names != set(reader.spans) or not isinstance(contents['masks'], bool):
      raise ValueError('its tensors are not those that its metadata lists')
  except (LookupError, TypeError, ValueError) as error:
    raise _checks.damaged_file(reader.function, reader.path, error) from None
  return contents, plans, [row[-1] for row in rows]


def _placement(like: Any, plans: list[_leaf.Leaf]) -> tuple[list[int], Any, list[Any]]:
  """Which leaf of the file goes where in ``like``, and on which devices each one lives."""
  if like is None:
    return [], None, [None] * len(plans)
  paths, leaves, treedef = tree.flatten(like)
  number = {plan.path: i for i, plan in enumerate(plans)}
  if len(paths) != len(plans) or set(paths) != set(number):
    raise _checks.like_other_paths('load', list(number), paths)
  order = [number[path] for path in paths]
  shardings: list[Any] = [None] * len(plans)
  for i, leaf in zip(order, leaves):
    if tree.is_array(leaf):
      plan = plans[i]
      if tuple(leaf.shape) != plan.shape or leaf.dtype.name != plan.dtype:
        raise _checks.like_other_leaf('load', plan.path, leaf, plan.dtype, plan.shape)
      shardings[i] = _sharding(leaf)
  return order, treedef, shardings


def _sharding(leaf: Any) -> Any:
  """The sharding that the user chose; an uncommitted array merely lies on the default device."""
  if isinstance(leaf, jax.Array) and not getattr(leaf, 'committed', True):
    return None
  return getattr(leaf, 'sharding', None)


def _read(reader: _container.Reader, plan: _leaf.Leaf, checksum: str, sharding: Any) -> Any:
  """One leaf and its mask, as jax arrays."""
  found = 0
  try:
    arrays = []
    for tensor in _leaf.tensors(plan):
      raw = reader.raw(tensor)
      found = zlib.crc32(memoryview(raw), found)
      arrays.append(raw.view(tensor.dtype).reshape(tensor.shape))
    if f'{found:08x}' != checksum:
      raise ValueError('its data has another checksum')
    values, mask = _leaf.decode(plan, arrays)
  except ValueError as error:
    raise _checks.damaged_file(reader.function, reader.path, error, plan.path) from None
  if mask is None:
    return _on_device(values, sharding), None
  placed = _on_device(mask, sharding)
  return _on_device(values, sharding), pack_leaf(placed) if plan.mask == 'packed' else placed


def _on_device(array: np.ndarray, sharding: Any) -> jax.Array:
  return jnp.asarray(array) if sharding is None else jax.device_put(array, sharding)
