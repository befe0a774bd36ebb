"""What a check is given: a mesh over all processes, a way onto it, and a way to compare."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

KINDS = {'auto': AxisType.Auto, 'explicit': AxisType.Explicit}


@dataclasses.dataclass(frozen=True)
class World:
  """Two axes of devices, ``'data'`` and ``'model'``; along one or both come other processes.

  Attributes:
    kind: of the axes, ``'auto'`` or ``'explicit'``.
    folder: one for this check, which all processes see.
  """

  kind: str
  folder: pathlib.Path | None = None

  @property
  def mesh(self):
    devices = np.array(jax.devices()).reshape(2, -1)
    return Mesh(devices, ('data', 'model'), axis_types=(KINDS[self.kind],) * 2)

  @property
  def anywhere(self):
    """The same world for all checks."""
    return World(self.kind)

  @property
  def first(self):
    return jax.process_index() == 0

  def put(self, tree, spec=None):
    """Arrays at hand, the same ones on all processes, spread over all of them.

    Args:
      tree: of arrays; keys and scalars are put on all devices.
      spec: of all leaves; by default the first axis is split over ``'data'`` and the last one over
        ``'model'``, as sizes allow; where axes are explicit only the first one of matrices, as
        else plain products would have to say how their results are split.
    """

    def put(x):
      if not hasattr(x, 'shape'):
        return x
      sharding = NamedSharding(self.mesh, self._spec(x.shape) if spec is None else spec)
      if _is_key(x):
        return _key_of(self.put(np.asarray(jax.random.key_data(x)), P()), x)
      x = np.asarray(x)
      return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(put, tree)

  def _spec(self, shape):
    axes = [None] * len(shape)
    names = [(-1, 'model'), (0, 'data')]
    if self.kind == 'explicit':
      names = names[1:] if len(shape) > 1 else []
    for axis, name in names:
      if shape and shape[axis] % self.mesh.shape[name] == 0:
        axes[axis] = name
    return P(*axes)

  def gathered(self, tree):
    """Whole arrays on each process."""

    def gather(x):
      if not isinstance(x, jax.Array) or x.is_fully_addressable:
        return x
      if _is_key(x):
        return _key_of(self.gathered(jax.random.key_data(x)), x)
      return multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(gather, tree)

  def same(self, found, alone, rtol=0.0, atol=0.0):
    """Compares what was found with what one process finds, to the last bit by default.

    Args:
      found: tree of arrays, whole or spread, and of plain data, equal on all processes.
      alone: the same of arrays at hand, or a function that makes it, which only the first process
        calls.
      rtol: relative tolerance, of numbers.
      atol: absolute one.
    """
    found = self.gathered(found)
    self.agreed([x for x in jax.tree.leaves(found) if not isinstance(x, (jax.Array, np.ndarray))])
    if not self.first:
      return
    wanted = alone() if callable(alone) else alone
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted)):
      assert getattr(one, 'dtype', type(one)) == getattr(other, 'dtype', type(other))
      if _is_key(other):
        one, other = jax.random.key_data(one), jax.random.key_data(other)
      number = isinstance(other, float) or np.asarray(other).dtype.kind in 'fc'
      if rtol and number:
        np.testing.assert_allclose(one, other, rtol, atol)
      else:
        np.testing.assert_array_equal(one, other)

  def agreed(self, value):
    """That all processes have the same text, number or plain data."""
    held = np.frombuffer(repr(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([held.size], np.int32))
    assert (sizes == held.size).all(), repr(value)
    everywhere = multihost_utils.process_allgather(held).reshape(-1, held.size)
    assert (everywhere == held).all(), repr(value)

  def lies_like(self, found, wanted):
    """That leaves are sharded as others are."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
      assert one.sharding.is_equivalent_to(other.sharding, one.ndim), (one.sharding, other.sharding)


def _is_key(x):
  return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _key_of(data, like):
  return jax.random.wrap_key_data(data, impl=jax.random.key_impl(like))
