"""An Orbax checkpoint, read leaf by leaf: Orbax says what it holds, TensorStore reads arrays."""

from __future__ import annotations

import json
import os
from typing import Any

import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune.io import _errors, _memory
from jprune.io._boxes import Box
from jprune.io._lazy import LazyArray
from jprune.io._leaf import Leaf

MARKS = _METADATA, _STEP = '_METADATA', '_CHECKPOINT_METADATA'  # files of a checkpoint's folder
_UNFINISHED = '.orbax-checkpoint-tmp'


def folder_of(function: str, path: str) -> str | None:
  """The folder of the one tree of arrays in an Orbax checkpoint; ``None`` if it is none.

  Raises:
    ValueError: if it holds several trees, or was never finished.
  """
  if not os.path.isdir(path):
    return None
  found = [path] if os.path.exists(os.path.join(path, _METADATA)) else []
  if not found and os.path.exists(os.path.join(path, _STEP)):
    items = [os.path.join(path, name) for name in sorted(os.listdir(path))]
    found = [item for item in items if os.path.exists(os.path.join(item, _METADATA))]
  if len(found) > 1:
    raise _errors.several_checkpoints(function, path, [os.path.basename(item) for item in found])
  if found and _UNFINISHED in os.path.basename(os.path.abspath(path)):
    raise _errors.unfinished(function, path)
  return found[0] if found else None


def leaves(function: str, folder: str) -> Any:
  """The tree of a checkpoint; its leaves are lazy.

  Raises:
    ImportError: if Orbax is not installed.
    ValueError: if it can't be read.
  """
  try:
    import orbax.checkpoint as ocp
    import tensorstore  # noqa: F401  # comes with it
    from etils import epath  # and this
  except ImportError:
    raise _checks.missing_library(function, 'orbax-checkpoint', 'orbax') from None
  folder = os.path.abspath(folder)
  try:
    with open(os.path.join(folder, _METADATA), 'rb') as file:
      contents = json.load(file)
    found = ocp.PyTreeCheckpointHandler().metadata(epath.Path(folder)).tree
    options = {
      'zarr': 'zarr3' if contents.get('use_zarr3') else 'zarr',
      'ocdbt': os.path.exists(os.path.join(folder, 'manifest.ocdbt')),
      # else chunks of zeros are those that were never written
      'all_written': bool(contents.get('store_array_data_equal_to_fill_value')),
    }
    return _lazy_tree(function, folder, found, options)
  except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
    raise _errors.broken_orbax(function, folder, error) from None


def _lazy_tree(function: str, folder: str, found: Any, options: dict[str, Any]) -> Any:
  paths, metadata, treedef = tree.flatten(found)
  lazy = [_lazy(function, folder, *pair, options) for pair in zip(paths, metadata)]
  return treedef.unflatten(lazy)


def _lazy(function: str, folder: str, path: str, metadata: Any, options: dict[str, Any]) -> Any:
  """A leaf; what is no array, such as a text, stays what Orbax says of it."""
  if getattr(metadata, 'shape', None) is None or metadata.dtype is None:
    return metadata
  shape, dtype = tuple(int(n) for n in metadata.shape), jnp.dtype(metadata.dtype)
  size = int(np.prod(shape, dtype=object))
  plan = Leaf(path, dtype.name, shape, 'dense', size, None)

  def read(box: Box | None) -> tuple[np.ndarray, None]:
    if box is None:
      _memory.check_fit(function, folder, [plan])
    return _read(function, folder, path, _spec(folder, metadata.name, options), box), None

  return LazyArray(path, shape, dtype, read)


def _spec(folder: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
  """Where TensorStore finds an array of Orbax."""
  if options['ocdbt']:
    store = {'driver': 'ocdbt', 'base': f'file://{folder}/', 'path': f'{name}/'}
  else:
    store = {'driver': 'file', 'path': f'{folder}/{name}/'}
  return {
    'driver': options['zarr'],
    'kvstore': store,
    'fill_missing_data_reads': not options['all_written'],
  }


def _read(
  function: str, folder: str, path: str, spec: dict[str, Any], box: Box | None
) -> np.ndarray:
  import tensorstore

  try:
    array = tensorstore.open(spec, open=True, read=True).result()
    return np.array((array if box is None else array[box].translate_to[0]).read().result())
  except (ValueError, OSError, RuntimeError) as error:  # the kinds in which it reports damage
    raise _checks.damaged_file(function, folder, error, path) from None
