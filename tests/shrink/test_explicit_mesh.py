"""Under a mesh of Explicit axes, where shardings are part of types: every network, every rule.

Networks and rules are traced only, as that is when JAX compares shardings; one function runs.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jprune
from jprune.graph._program.sharding import divided, explicit
from tests import zoo
from tests.graph.primitives import _forms, _instances
from tests.graph.primitives._trials import Case, Trial
from tests.shrink import _masks

# What cuts and joins meets most of what may be split: more instances of each form.
_CUT = ('slice', 'split', 'pad', 'concatenate', 'dynamic_slice', 'dynamic_update_slice')
COUNTS = dict.fromkeys((*_CUT, 'conv_general_dilated'), 8)


@pytest.fixture
def network(request):
  """Made under no mesh, as all tests share it."""
  return zoo.made(request.param)


@pytest.fixture
def mesh():
  mesh = jax.make_mesh((2, 2), ('batch', 'model'), axis_types=(AxisType.Explicit,) * 2)
  with jax.set_mesh(mesh):
    yield mesh


def split(mesh, value, **names):
  """A struct that is split along its first, its last axis, where that is of an even size."""
  shape = np.shape(value)
  spec = [None] * len(shape)
  for axis, name in zip((0, -1), (names.get('first'), names.get('last')), strict=True):
    if name and shape and shape[axis] % 2 == 0 and (name == 'batch' or len(shape) > 1):
      spec[axis] = name
  sharding = NamedSharding(mesh, PartitionSpec(*spec))
  return jax.ShapeDtypeStruct(shape, value.dtype, sharding=sharding)


def ways(mesh, params, args):
  """Params and arguments split ever less, the last way not at all."""
  for weights, data in (('model', 'batch'), (None, 'batch'), (None, None)):
    place = lambda values, **names: jax.tree.map(lambda x: split(mesh, x, **names), values)
    yield place(params, last=weights), place(args, first=data)


def shardings(outs):
  return [x.sharding for x in jax.tree.leaves(outs)]


@pytest.mark.parametrize('network', zoo.CASES, indirect=True)
def test_networks(network, mesh):
  fn, params, args = network
  for placed, data in ways(mesh, params, args):
    try:
      expected = jax.eval_shape(fn, placed, *data)
      break
    except Exception:  # JAX asks for the sharding of what it can't split
      continue
  graph = jprune.graph.channels(fn, placed, *data)
  kept = _masks.random_kept(graph, np.random.default_rng(1))
  small = jprune.shrink(fn, placed, _masks.masks_of(graph, kept), *data)
  whole, left = jax.tree.leaves(placed), jax.tree.leaves(small.params)
  assert shardings(left) == [divided(x.sharding, y.shape) for x, y in zip(whole, left)]
  found = jax.eval_shape(small.fn, small.params, *data)
  pairs = zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True)
  assert shardings(found) == [divided(x.sharding, y.shape) for x, y in pairs]
  again, _ = jax.eval_shape(lambda *given: jprune.graph.capture(fn, *given), placed, *data)
  assert shardings(again) == shardings(expected)


@pytest.mark.parametrize('name', [name for name in _forms.FORMS if name in _forms.KNOWN])
def test_rules(name, mesh):
  for which, make in enumerate(_instances.FORMS[name]):
    for number in range(COUNTS.get(name, 2)):
      rng = np.random.default_rng([number, which, *name.encode()])
      case = traced(make, mesh, rng, number + which)
      if case is not None:
        check(Trial(case, rng), mesh)


def traced(make, mesh, rng, kind):
  """An instance with operands split at random; ``None`` if JAX doesn't take it so."""
  for _ in range(3):
    try:
      instance = _instances.random_instance(make, rng, kind % 4 >= 2, kind % 2 == 1)
      structs = [scattered(mesh, operand, rng) for operand in instance.operands]
      return Case('split', instance, jax.make_jaxpr(instance.fn)(*structs))
    except Exception:  # the same, of which JAX has no public class
      continue
  return None


def scattered(mesh, operand, rng):
  names, spec = list(mesh.axis_names), [None] * len(operand.shape)
  for axis in rng.permutation(len(spec)):
    if names and operand.shape[axis] and operand.shape[axis] % 2 == 0 and rng.random() < 0.6:
      spec[axis] = names.pop()
  return split(mesh, operand.struct).update(sharding=NamedSharding(mesh, PartitionSpec(*spec)))


def check(trial, mesh):
  walk, frame = trial.walk, trial.frame
  size = lambda dims: tuple(walk.small_size(dim, frozenset()) for dim in dims)
  structs = []
  for var, dims in zip(frame.jaxpr.invars, trial.ins):
    spec = explicit(var.aval, size(dims)).spec
    structs.append(
      jax.ShapeDtypeStruct(size(dims), var.aval.dtype, sharding=NamedSharding(mesh, spec))
    )
  outs = jax.eval_shape(lambda *xs: walk(frame, list(xs)), *structs)
  for out, var in zip(outs, frame.jaxpr.outvars):
    wanted = explicit(var.aval, out.shape)
    assert wanted is None or out.sharding is None or out.sharding.spec == wanted.spec


def gated(params, ids):
  """A lookup, a split, a join and a product whose shardings are asked for."""
  x = params['table'].at[ids].get(out_sharding=PartitionSpec('batch', None))
  a, b = jnp.split(x @ params['in'], 2, -1)
  hidden = jnp.concatenate([jnp.tanh(a) * b, b], -1)
  return jnp.dot(hidden, params['out'], out_sharding=PartitionSpec('batch', None))


def test_every_call_gives_the_numbers_that_it_gives_on_one_device(mesh):
  rng = np.random.default_rng(0)
  shapes = {'table': (7, 4), 'in': (4, 12), 'out': (12, 4)}
  plain = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
  specs = {'table': (), 'in': (None, 'model'), 'out': ('model', None)}
  put = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
  params = {key: put(x, *specs[key]) for key, x in plain.items()}
  ids = put(np.array([0, 1, 5, 3]), 'batch')
  graph = jprune.graph.channels(gated, params, ids)
  kept = [np.arange(group.size) >= (3 if group.size == 6 else 0) for group in graph.groups]
  masks = _masks.masks_of(graph, kept)  # three are left, which two devices don't divide
  small = jprune.shrink(gated, params, masks, ids)
  assert small.params['in'].shape == (4, 6)
  masked = {k: np.where(True if m is None else m, plain[k], 0) for k, m in masks.items()}
  a, b = np.split(masked['table'][np.asarray(ids)] @ masked['in'], 2, -1)
  expected = np.concatenate([np.tanh(a) * b, b], -1) @ masked['out']
  np.testing.assert_allclose(small.fn(small.params, ids), expected, rtol=1e-5, atol=1e-5)
  loss = lambda fn: jax.jit(jax.grad(lambda p: jnp.square(fn(p, ids)).sum()))
  slices = small.plan.slice(loss(gated)(jprune.apply(params, masks)))
  _masks.assert_same(slices, loss(small.fn)(small.params), tolerance=1e-4, overall=True)
  assert jprune.graph.verify(gated, params, masks, ids).relative < 1e-5
  there_and_back = jax.jit(lambda p: small.plan.expand(small.plan.slice(p)))(params)
  for key, mask in masks.items():
    np.testing.assert_array_equal(
      there_and_back[key], np.where(True if mask is None else mask, plain[key], 0)
    )
  tally = jprune.tally(params, masks, fn=gated, args=(ids,))
  assert tally.macs.dense == 4 * (4 * 12 + 12 * 4) == 2 * tally.macs.shrunk
  rows = plain['table'][np.asarray(ids)]
  _, stats = jprune.graph.capture(gated, params, ids, gram=True)
  ((_, moments),) = stats['in']
  np.testing.assert_allclose(moments.mean, rows.mean(0)[None], rtol=1e-5, atol=1e-6)
  repaired, found, _ = jprune.reconstruct.prune(gated, params, [ids], sparsity=0.5, progress=False)
  assert [int(found[key].sum()) for key in ('in', 'out')] == [24, 24]
  assert repaired['in'].sharding.spec == params['in'].sharding.spec
