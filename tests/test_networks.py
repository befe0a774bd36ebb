"""The networks of the tests are the published ones: their counts, and what small ones compute."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr

from tests import networks


def params_of(network):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(network.variables['params']))


@pytest.mark.parametrize(
  ('make', 'count'),
  [
    (lambda: networks.resnet18(), 11_689_512),
    (lambda: networks.resnet18(width=32), 3_055_880),
    (lambda: networks.resnet50(), 25_557_032),
    (lambda: networks.resnet50(width=32), 6_917_640),
    (lambda: networks.resnet56(), 855_770),
    (lambda: networks.resnet56(width=8), 215_282),
    (lambda: networks.vit(), 86_567_656),
    (lambda: networks.vit(fused=True), 86_567_656),
    (lambda: networks.vit(hidden=384, heads=6, mlp=1536), 22_050_664),
    (lambda: networks.llama(), 8_030_261_248),
    (lambda: networks.llama(scan=True), 8_030_261_248),
  ],
)
def test_published_param_counts(make, count):
  assert params_of(make()) == count


def test_llama_is_bfloat16_all_over():
  for scan in (False, True):
    fn, variables, args = networks.llama(layers=2, scan=scan)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.bfloat16)}
    assert jax.eval_shape(fn, variables, *args).dtype == jnp.bfloat16


# --------------------------------------------------------------------------------------- MACs


def resnet50_macs():
  """Convolutions and the classifier, from a list of their shapes."""
  macs = 112**2 * 7**2 * 3 * 64 + 2048 * 1000
  inputs = 64
  for side, blocks, width in ((56, 3, 64), (28, 4, 128), (14, 6, 256), (7, 3, 512)):
    for block in range(blocks):
      before = side if block or width == 64 else 2 * side  # only then comes the stride
      macs += before**2 * inputs * width + side**2 * (3**2 * width * width + width * 4 * width)
      if not block:
        macs += side**2 * inputs * 4 * width
      inputs = 4 * width
  return macs


def traced_macs(jaxpr):
  """Convolutions and products of matrices, from the shapes in a jaxpr without loops."""
  macs = 0
  for eqn in jaxpr.eqns:
    for value in eqn.params.values():
      if isinstance(value, ClosedJaxpr):
        macs += traced_macs(value.jaxpr)
    out = math.prod(eqn.outvars[0].aval.shape)
    if eqn.primitive.name == 'conv_general_dilated':
      kernel = eqn.invars[1].aval.shape
      macs += out * math.prod(kernel) // kernel[eqn.params['dimension_numbers'].rhs_spec[0]]
    elif eqn.primitive.name == 'dot_general':
      (contracted, _), _ = eqn.params['dimension_numbers']
      macs += out * math.prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
  return macs


def test_published_macs():
  fn, variables, args = networks.resnet50()
  assert resnet50_macs() == 4_089_184_256
  assert traced_macs(jax.make_jaxpr(fn)(variables, *args).jaxpr) == 4_089_184_256
  fn, variables, args = networks.resnet18()
  assert traced_macs(jax.make_jaxpr(fn)(variables, *args).jaxpr) == 1_814_073_344


# ------------------------------------------------------------------------------- small networks


def run(network):
  return jax.jit(network.fn)(networks.filled(network.variables), *map(values, network.args))


def values(struct):
  rng = np.random.default_rng(1)
  if jnp.issubdtype(struct.dtype, jnp.integer):
    return rng.integers(0, 10, struct.shape, struct.dtype)
  return rng.standard_normal(struct.shape, struct.dtype)


SMALL = {
  'resnet18': (networks.resnet18(num_classes=7, width=8, size=32, batch=2), (2, 7)),
  'resnet50': (networks.resnet50(num_classes=7, width=4, size=32, batch=2), (2, 7)),
  'resnet56': (networks.resnet56(width=4, size=8, batch=2, blocks=1), (2, 10)),
  'odd channels': (networks.resnet(5, (((3, 5), (7, 5)), ((4, 9),)), 7, 32, 2), (2, 7)),
  'odd bottlenecks': (networks.resnet(5, (((3, 2, 9),), ((4, 6, 7),)), 7, 32, 2), (2, 7)),
  'vit': (networks.vit(7, 2, hidden=12, heads=3, mlp=20, size=8, patch=4, batch=2), (2, 7)),
  'fused vit': (
    networks.vit(7, 1, hidden=12, heads=2, mlp=9, size=8, patch=4, head_dim=5, fused=True),
    (1, 7),
  ),
  'llama': (networks.llama(2, 16, 4, 2, 6, mlp=20, vocab=10, length=5), (1, 5, 10)),
}


@pytest.mark.parametrize('name', SMALL)
def test_small_networks_run(name):
  network, shape = SMALL[name]
  out = run(network)
  assert out.shape == shape
  assert jnp.isfinite(out).all()
  assert jnp.std(out.astype(jnp.float32)) > 1e-3


@pytest.mark.parametrize(
  ('network', 'width'), [(networks.resnet18, 64), (networks.resnet50, 64), (networks.resnet56, 16)]
)
def test_half_the_width_halves_every_channel(network, width):
  dense, half = network(), network(width=width // 2)

  def halved(path, leaf, small):
    lead, ends = leaf.shape[:-2], leaf.shape[-2:]
    ends = tuple(size if size in (3, 10, 1000) else size // 2 for size in ends)  # colours, classes
    assert small.shape == lead + ends, path

  jax.tree_util.tree_map_with_path(halved, dense.variables, half.variables)


SIZES = {
  'layers': 3,
  'hidden': 16,
  'heads': 4,
  'kv_heads': 2,
  'head_dim': 6,
  'mlp': 20,
  'vocab': 10,
  'length': 5,
  'dtype': jnp.float32,
}


def test_scanned_llama_is_the_unrolled_one():
  unrolled, scanned = networks.llama(**SIZES), networks.llama(**SIZES, scan=True)
  variables = networks.filled(unrolled.variables)
  params = dict(variables['params'])
  blocks = [params.pop(f'block_{index}') for index in range(SIZES['layers'])]
  stacked = {'params': params | {'blocks': jax.tree.map(lambda *each: np.stack(each), *blocks)}}
  assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, scanned.variables)
  tokens = values(unrolled.args[0])
  want = jax.jit(unrolled.fn)(variables, tokens)
  np.testing.assert_allclose(jax.jit(scanned.fn)(stacked, tokens), want, rtol=1e-5, atol=1e-5)


def test_llama_looks_back_only_and_knows_positions():
  fn, structs, _ = networks.llama(**SIZES)
  variables = networks.filled(structs)
  tokens = np.array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6], [2, 1, 3, 4, 5]], np.int32)
  first, last, swapped = jax.jit(fn)(variables, tokens)
  np.testing.assert_allclose(first[:4], last[:4], rtol=1e-5, atol=1e-5)
  assert jnp.abs(first[4] - last[4]).max() > 1e-3
  assert jnp.abs(first[4] - swapped[4]).max() > 1e-5
