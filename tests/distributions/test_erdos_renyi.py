"""er and erk: published numbers, and properties that hold for any shapes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jprune import distributions as d

UNIT = {'a': (2, 4), 'b': (3, 6), 'c': (2, 4, 6)}
WEIGHTS, MACS = 25_502_912, 4_089_184_256


def structs(shapes):
  is_shape = lambda s: isinstance(s, tuple)
  struct = lambda s: jax.ShapeDtypeStruct(s, jnp.float32)
  return jax.tree.map(struct, shapes, is_leaf=is_shape)


def solve(distribution, shapes, sparsity):
  tree = structs(shapes)
  return distribution(tree, tree, sparsity)


@pytest.mark.parametrize(
  ('distribution', 'sparsity', 'expected'),
  [
    (d.erk, 0.5, (0, 0.31, 0.655)),
    (d.er, 0.5, (0.21, 0.47, 0.56)),
    (d.erk, 0.8, (0.556, 0.70, 0.85)),
    (d.erk(power=2), 0.5, (0, 0.033, 0.758)),
    (functools.partial(d.erk, power=2), 0.5, (0, 0.033, 0.758)),
  ],
)
def test_unit_values_of_rigl_and_jaxpruner(distribution, sparsity, expected):
  found = solve(distribution, UNIT, sparsity)
  np.testing.assert_allclose([found[k] for k in 'abc'], expected, atol=0.005)


def resnet50():
  """v1.5: name to shape and MACs. The stride is in the 3x3 convolution."""
  layers = {'conv1': ((7, 7, 3, 64), 112)}
  fan_in, side = 64, 56
  for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
    for block in range(blocks):
      out = side // 2 if stage and not block else side
      name = f'{stage}/{block}/'
      layers[name + '1'] = (1, 1, fan_in, width), side
      layers[name + '2'] = (3, 3, width, width), out
      layers[name + '3'] = (1, 1, width, 4 * width), out
      if not block:
        layers[name + 'downsample'] = (1, 1, fan_in, 4 * width), out
      fan_in, side = 4 * width, out
  layers['fc'] = (2048, 1000), 1
  shapes = {name: shape for name, (shape, _) in layers.items()}
  return shapes, {name: math.prod(shape) * side**2 for name, (shape, side) in layers.items()}


def test_resnet50_is_the_reference_model():
  shapes, macs = resnet50()
  assert len(shapes) == 54
  assert sum(map(math.prod, shapes.values())) == WEIGHTS
  assert sum(macs.values()) == MACS


RESNET50_AT_90 = {
  (7, 7, 3, 64): 0.579962,
  (1, 1, 64, 64): 0,
  (2048, 1000): 0.927392,
  (1, 1, 64, 256): 0.041181,
  (1, 1, 256, 64): 0.041181,
  (1, 1, 256, 128): 0.425304,
  (1, 1, 128, 512): 0.522079,
  (1, 1, 512, 128): 0.522079,
  (1, 1, 512, 256): 0.713397,
  (1, 1, 256, 512): 0.713397,
  (1, 1, 256, 1024): 0.761412,
  (1, 1, 1024, 256): 0.761412,
  (1, 1, 1024, 512): 0.856884,
  (1, 1, 512, 1024): 0.856884,
  (1, 1, 512, 2048): 0.880799,
  (1, 1, 2048, 512): 0.880799,
  (1, 1, 1024, 2048): 0.928489,
  (3, 3, 64, 64): 0.822662,
  (3, 3, 128, 128): 0.913316,
  (3, 3, 256, 256): 0.957154,
  (3, 3, 512, 512): 0.978701,
}


def test_resnet50_digit_by_digit():
  shapes, _ = resnet50()
  found = solve(d.erk, shapes, 0.9)
  assert set(shapes.values()) == set(RESNET50_AT_90)
  for name, shape in shapes.items():
    assert f'{found[name]:.6f}' == f'{RESNET50_AT_90[shape]:.6f}', name


@pytest.mark.parametrize(
  ('sparsity', 'flops', 'megabytes'), [(0.8, 0.42, 23.683), (0.9, 0.24, 13.499)]
)
def test_resnet50_flops_and_bytes(sparsity, flops, megabytes):
  shapes, macs = resnet50()
  found = solve(d.erk, shapes, sparsity)
  # The table's .42 is .414 in MACs, and .415 with the authors' counting of activations.
  assert abs(sum((1 - found[name]) * macs[name] for name in macs) / MACS - flops) < 0.007
  size = {name: math.prod(shape) for name, shape in shapes.items()}
  # 32 bits for each kept weight and each bias, 1 bit of mask for each weight of a sparse leaf.
  bits = sum(32 * (1 - s) * size[name] + (size[name] if s else 0) for name, s in found.items())
  biases = 1000 + sum(shape[-1] for name, shape in shapes.items() if name != 'fc')
  assert abs((bits + 32 * biases) / 8e6 - megabytes) < 0.001
  assert round(4 * (WEIGHTS + biases) / 1e6, 3) == 102.122


shape_lists = st.lists(
  st.lists(st.integers(1, 40), min_size=0, max_size=4).map(tuple), min_size=1, max_size=12
)
fractions = st.floats(0, 1)
distributions = st.sampled_from([d.er, d.erk])
properties = settings(deadline=None, max_examples=200)


def zeros(size, sparsity):
  return min(size, math.floor(sparsity * size * (1 + 1e-12)))


@properties
@given(distributions, shape_lists, fractions, st.floats(0, 4))
def test_weights_add_up_and_sparsities_are_fractions(distribution, shapes, sparsity, power):
  found = solve(distribution(power=power), shapes, sparsity)
  sizes = [math.prod(shape) for shape in shapes]
  pruned = math.fsum(size * s for size, s in zip(sizes, found, strict=True))
  total = sum(sizes)
  assert all(type(s) is float and 0 <= s <= 1 for s in found)
  assert abs(pruned - sum(zeros(size, sparsity) for size in sizes)) / total <= 1e-12
  assert -1e-12 <= sparsity - pruned / total < len(sizes) / total + 1e-12


@properties
@given(distributions, shape_lists, st.integers(0, 8), st.floats(0, 4))
def test_whole_weights_meet_the_overall_sparsity_exactly(distribution, shapes, eighths, power):
  shapes = [(*shape, 8) for shape in shapes]
  found = solve(distribution(power=power), shapes, eighths / 8)
  sizes = [math.prod(shape) for shape in shapes]
  pruned = math.fsum(size * s for size, s in zip(sizes, found, strict=True))
  assert abs(pruned / sum(sizes) - eighths / 8) <= 1e-12


@properties
@given(distributions, shape_lists, fractions, st.floats(0, 3))
def test_densities_are_in_proportion_or_one(distribution, shapes, sparsity, power):
  """One factor for all, found here by bisection instead of rounds."""
  sizes = np.array([math.prod(shape) for shape in shapes], float)
  dims = [shape if distribution is d.erk else shape[-2:] for shape in shapes]
  share = np.array([(sum(n) / math.prod(n) if n else 1.0) ** power for n in dims])
  keep = sum(size - zeros(int(size), sparsity) for size in sizes)
  assume(keep < sizes.sum())
  low, high = 0.0, 1 / share.min()
  for _ in range(200):
    factor = (low + high) / 2
    low, high = (factor, high) if sizes @ np.minimum(1, factor * share) < keep else (low, factor)
  found = solve(distribution(power=power), shapes, sparsity)
  np.testing.assert_allclose(found, 1 - np.minimum(1, high * share), atol=1e-9)


def test_power_is_the_power_of_the_density_ratio():
  shapes = {'a': (3, 3, 40, 50), 'b': (30, 100)}
  one, two = (solve(d.erk(power=p), shapes, 0.98) for p in (1, 1.5))
  ratio = lambda found: (1 - found['a']) / (1 - found['b'])
  assert ratio(one) == pytest.approx((96 / 18_000) / (130 / 3_000))
  assert ratio(two) == pytest.approx(ratio(one) ** 1.5)


def test_power_zero_is_uniform():
  assert solve(d.erk(power=0), {'a': (10, 10), 'b': (3, 3, 10, 10)}, 0.3) == {
    'a': pytest.approx(0.3),
    'b': pytest.approx(0.3),
  }


def test_saturated_leaves_stay_dense_and_the_rest_is_solved_again():
  found = solve(d.erk, {'tiny': (2, 2), 'small': (4, 5), 'large': (100, 100)}, 0.3)
  assert found['tiny'] == found['small'] == 0.0
  assert found['large'] * 10_000 == pytest.approx(0.3 * 10_024, abs=1)


def test_leaves_of_equal_shape_are_equal_and_dense_leaves_take_no_part():
  shapes = structs({'a': (8, 8), 'b': (8, 8), 'head': (64, 64)})
  found = d.erk(shapes, shapes | {'head': None}, 0.75)
  assert found == {'a': 0.75, 'b': 0.75, 'head': None}


def test_scalars_and_leaves_without_weights():
  found = solve(d.er, {'scalar': (), 'vector': (5,), 'none': (0, 3), 'w': (20, 30)}, 0.5)
  assert found['none'] == found['scalar'] == found['vector'] == 0.0
  assert solve(d.erk, {'none': (0, 3)}, 0.5) == {'none': 0.0}


def test_decimal_fractions_lose_no_weight_to_binary():
  assert solve(d.erk, {'w': (10, 10)}, 0.29)['w'] == pytest.approx(0.29, abs=1e-12)


def test_billions_of_weights_and_extreme_powers():
  shapes = {'embed': (256_000, 16_384), 'mlp': (16_384, 53_248), 'norm': (16, 16)}
  found = solve(d.erk, shapes, 0.9)
  total = sum(math.prod(shape) for shape in shapes.values())
  pruned = math.fsum(found[name] * math.prod(shape) for name, shape in shapes.items())
  assert abs(pruned / total - 0.9) < 1e-9
  assert all(0 <= s <= 1 for s in solve(d.erk(power=500), shapes, 0.9).values())


def test_called_without_params_it_waits_for_them():
  assert solve(d.erk(), UNIT, 0.5) == solve(d.erk, UNIT, 0.5)
  assert solve(d.er(power=1.0), UNIT, 0.5) == solve(d.er, UNIT, 0.5)


@pytest.mark.parametrize('name', ['er', 'erk'])
def test_refuses_bad_powers(name):
  distribution = getattr(d, name)
  for power in (-1, float('nan'), float('inf')):
    with pytest.raises(ValueError, match=rf'^{name}: `power` must be at least 0 and finite; got'):
      distribution(power=power)
  with pytest.raises(TypeError, match=rf"^{name}: `power` must be a number; got '1'"):
    distribution(power='1')
  with pytest.raises(TypeError, match=rf'^{name}: `power` must be a number at hand'):
    jax.jit(lambda p: solve(distribution(power=p), UNIT, 0.5))(1.0)
