"""What a selection takes besides the scores, as XLA says of the compiled program."""

import jax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jprune
from jprune.masks._selection import flat as _flat
from jprune.masks._selection import keys as _keys
from jprune.masks._selection import select as _select

QUICK = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
ALLOWED = {'float32': 0.05, 'bfloat16': 0.05}  # of the scores


def share(select, *leaves):
  """Temporary bytes for each byte of the scores on a device."""
  compiled = jax.jit(select, compiler_options=QUICK).lower(*leaves).compile()
  memory = compiled.memory_analysis()
  return memory.temp_size_in_bytes / memory.argument_size_in_bytes


@pytest.mark.parametrize('dtype', ALLOWED)
@pytest.mark.parametrize(
  ('shape', 'spec'),
  [
    ((2**22 + 1,), ()),
    ((2**22,), (('x', 'y'),)),
    ((2048, 2048), ('y', 'x')),
    ((1000, 4321), ()),
  ],
)
def test_several_devices(shape, spec, dtype):
  mesh = jax.make_mesh((4, 2), ('x', 'y'), axis_types=(AxisType.Auto,) * 2)
  place = NamedSharding(mesh, PartitionSpec(*spec)) if spec else None
  leaf = jax.ShapeDtypeStruct(shape, dtype, sharding=place)
  assert share(lambda x: jprune.masks.top_k_global({'w': x}, 0.8), leaf) <= ALLOWED[dtype]


@pytest.mark.parametrize('dtype', ALLOWED)
def test_one_device(dtype):
  leaf = jax.ShapeDtypeStruct((1000, 4321), dtype)
  select = lambda x: _select._traced([x], [10**6], together=True, way=_flat)
  assert share(select, leaf) <= ALLOWED[dtype]


def test_the_reader_of_memory_sees_what_is_stored():
  leaf = jax.ShapeDtypeStruct((1000, 4321), 'float32')
  assert share(lambda x: jax.numpy.sum(_keys.keys(x) > 5), leaf) > 0.9
