"""What the host looks at of arrays that span processes, so that all processes decide alike.

Each process holds a part of such an array. Small ones are sent to all; of large ones each process
reads what it holds, and what it found is. All processes make these calls, and get the same.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from typing import Any, cast

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def spans(*trees: Any) -> bool:
  """Whether any array has parts that only other processes can read."""
  return any(
    isinstance(x, jax.Array)
    and not isinstance(x, Tracer)
    and not (x.is_fully_addressable or x.is_fully_replicated)
    for x in jax.tree.leaves(trees)
  )


def whole(x: Any) -> np.ndarray:
  """All values of an array at hand; a small one, if it spans processes."""
  if not spans(x):
    return np.asarray(x)
  from jax.experimental import multihost_utils

  return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def parts(x: Any) -> Iterator[tuple[tuple[slice, ...], Any]]:
  """What this process holds of an array, and where: all processes together have each entry once."""
  if not isinstance(x, jax.Array):
    yield (slice(None),) * np.ndim(x), x
    return
  for shard in x.addressable_shards:
    if shard.replica_id == 0:
      yield shard.index, shard.data


def from_all(values: Any) -> np.ndarray:
  """What each process has found, ``(processes, *shape)``: NumPy's numbers, of one shape on all."""
  values = np.asarray(values)
  if not values.size or jax.process_count() == 1:
    return np.broadcast_to(values, (jax.process_count(), *values.shape))
  from jax.experimental import multihost_utils

  # as bytes, since JAX may be without 64 bits
  sent = np.frombuffer(values.tobytes(), np.uint8)
  found = np.asarray(multihost_utils.process_allgather(sent, tiled=False))
  return np.frombuffer(found.tobytes(), values.dtype).reshape(-1, *values.shape)


def by_first(work: Callable[[], str]) -> str:
  """What a function gives that the first process alone calls; what it raises is raised by all."""
  text, raised = '', None
  if jax.process_index() == 0:
    try:
      text = f'+{work()}'
    except Exception as error:
      text, raised = f'{type(error).__name__}+{error}', error
  size = int(from_all(np.int64(len(text.encode())))[0])
  held = np.zeros(size, np.uint8)
  if jax.process_index() == 0:
    held[:] = np.frombuffer(text.encode(), np.uint8)
  kind, _, said = from_all(held)[0].tobytes().decode().partition('+')
  if raised is not None:
    raise raised
  if kind:
    raise getattr(builtins, kind, RuntimeError)(said)
  return said


def automatic(sharding: Any) -> Any:
  """The same placement, so nothing is copied, on a mesh whose axes are not in types of arrays."""
  if not isinstance(sharding, NamedSharding):
    return sharding
  mesh = cast(Mesh, sharding.mesh)
  types = (AxisType.Auto,) * len(mesh.axis_names)
  return NamedSharding(Mesh(mesh.devices, mesh.axis_names, axis_types=types), sharding.spec)


def everywhere(sharding: Any) -> Any:
  """A sharding that has the whole of an array on each of the devices."""
  if isinstance(sharding, NamedSharding):
    return sharding.update(spec=PartitionSpec())
  devices = sorted(sharding.device_set, key=lambda device: device.id)
  mesh = Mesh(np.array(devices), ('all',), axis_types=(AxisType.Auto,))
  return NamedSharding(mesh, PartitionSpec())
