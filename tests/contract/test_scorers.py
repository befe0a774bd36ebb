"""What every scorer promises. A new scorer joins ``SCORERS``; a public one that doesn't fails.

A row gets params and a key, and makes up whatever else its scorer needs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jprune import scores, tree
from jprune.graph._statistics.moments import Moments
from jprune.graph._statistics.stats import Stats, Use

NARROW = [jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn, jnp.float8_e5m2, jnp.float8_e4m3b11fnuz]
VALUES = np.random.default_rng(1).normal(size=(3, 5))


class Row(NamedTuple):
  """How the contract calls one scorer.

  Attributes:
    call: ``(params, key) -> scores``.
    random: whether ``key`` is used.
    shapes_suffice: whether shape structs are params enough.
    atol: what scores may differ by where sums are taken in another order.
    cancels: whether large terms nearly cancel in a score, so that its last digits are only those
      that users have where it is compiled as they have it.
  """

  call: Callable[[Any, jax.Array], Any]
  random: bool = False
  shapes_suffice: bool = False
  atol: float = 0.0
  cancels: bool = False


def halved(params):
  """Something like gradients, wherever there can be any."""
  floating = lambda leaf: hasattr(leaf, 'dtype') and jnp.issubdtype(leaf.dtype, jnp.floating)
  if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params)):
    return params
  return jax.tree.map(lambda leaf: leaf / 2 if floating(leaf) else None, params)


def bounded(params, x):
  """Something like outputs: each floating leaf has a part in it, however large its weights."""
  parts = [
    jnp.sum(jnp.tanh(leaf.astype(jnp.float32))) / max(leaf.size, 1)
    for leaf in jax.tree.leaves(params)
    if hasattr(leaf, 'dtype') and jnp.issubdtype(leaf.dtype, jnp.floating)
  ]
  return sum(parts) * x


def smooth(params, batch):
  """Something like a loss, whose Hessian is not diagonal."""
  return jnp.mean(jnp.square(bounded(params, batch)))


BATCHES = (np.array([1.0, 0.5], np.float32), np.array([-0.5, 1.5], np.float32))


def by_loss(scorer, **kwargs):
  return lambda params, key: scorer(params, smooth, *BATCHES, **kwargs)


def made_up(params):
  """Something like captured statistics: each leaf as matrices (.., last axis), or a batch of them.

  Depend on paths and shapes alone, and lie on no device.
  """
  inputs, uses = [], []
  for path, leaf in zip(*tree.flatten(params)[:2], strict=True):
    if not tree.is_floating(leaf):
      continue
    axes = tuple(range(leaf.ndim))
    split = int(leaf.ndim > 2)  # the first of three axes or more numbers matrices
    parts = (axes[:split], axes[split:-1], axes[-1:])
    box = tuple((0, size) for size in leaf.shape)
    use = Use(box, tuple(leaf.shape), axes, *parts, source=len(inputs))
    batch, ins, _ = use.sizes
    rng = np.random.default_rng([batch, ins, *path.encode()])
    x = rng.normal(size=(batch, 2 * ins + 2, ins)) * np.linspace(0.5, 2, ins) + 0.3
    x = np.where(rng.random(x.shape) < 0.2, 0, x)
    apart = x - x.mean(axis=1, keepdims=True)
    known = (x.mean(axis=1), (apart**2).sum(axis=1), (x == 0).sum(axis=1), apart.mT @ apart)
    rows = np.full(batch, x.shape[1], np.float32)
    inputs.append(Moments(rows, *(each.astype(np.float32) for each in known)))
    uses.append((path, (use,)))
  return Stats(tuple(inputs), tuple(uses))


def by_stats(scorer, **kwargs):
  return lambda params, key: scorer(params, made_up(params), **kwargs)


SCORERS = {
  'magnitude': Row(lambda params, key: scores.magnitude(params)),
  'magnitude_l2': Row(lambda params, key: scores.magnitude(params, p=2)),
  'magnitude_cubed': Row(lambda params, key: scores.magnitude(params, p=3)),
  'random': Row(lambda params, key: scores.random(params, key=key), True, True),
  'lamp': Row(lambda params, key: scores.lamp(params)),
  'geometric_median': Row(lambda params, key: scores.geometric_median(params)),
  'geometric_median_first': Row(lambda params, key: scores.geometric_median(params, axis=0)),
  'taylor': Row(lambda params, key: scores.taylor(params, halved(params))),
  'snip': Row(by_loss(scores.snip), cancels=True),
  'taylor_batches': Row(by_loss(scores.taylor_batches), cancels=True),
  'taylor_samples': Row(by_loss(scores.taylor_samples), cancels=True),
  'taylor_samples_in_chunks': Row(by_loss(scores.taylor_samples, chunk=1), cancels=True),
  'grasp': Row(by_loss(scores.grasp), cancels=True),
  'fisher': Row(by_loss(scores.fisher), cancels=True),
  'obd': Row(
    lambda params, key: scores.obd(params, smooth, *BATCHES, key=key, samples=1),
    True,
    atol=1e-7,
    cancels=True,
  ),
  'synflow': Row(lambda params, key: scores.synflow(params, bounded, BATCHES[0])),
  'wanda': Row(by_stats(scores.wanda)),
  'ria': Row(by_stats(scores.ria)),
  'ria_squared': Row(by_stats(scores.ria, a=2)),
  'obs': Row(by_stats(scores.obs)),
  'activation': Row(by_stats(scores.activation)),
  'activation_mean': Row(by_stats(scores.activation_mean)),
  'activation_active': Row(by_stats(scores.activation_active)),
  'correlation': Row(by_stats(scores.correlation), atol=1e-6),
  'independence': Row(by_stats(scores.independence)),
}
# Rows that call a scorer with other arguments than its own row does.
VARIANTS = {
  'magnitude_l2',
  'magnitude_cubed',
  'geometric_median_first',
  'taylor_samples_in_chunks',
  'ria_squared',
}

each_random = pytest.mark.parametrize(
  'row', [pytest.param(r, id=n) for n, r in SCORERS.items() if r.random]
)
each_scorer = pytest.mark.parametrize('row', [pytest.param(r, id=n) for n, r in SCORERS.items()])


@pytest.fixture(autouse=True)
def _compiled_for(request, passes):
  row = request.node.callspec.params.get('row') if hasattr(request.node, 'callspec') else None
  passes(row is not None and row.cancels)


@pytest.fixture
def key():
  return jax.random.key(7)


def make_params(dtype=jnp.float32, seed=0, leading=()):
  """Nested containers; a matrix, a kernel, a vector, a scalar and a leaf without weights."""
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=(*leading, *shape)), dtype)
  return {
    'dense': {'kernel': draw(8, 16), 'bias': draw(16)},
    'conv': [draw(3, 3, 2, 4)],
    'scale': (draw(),),
    'empty': draw(0, 4),
  }


def assert_same(one, two, rtol=0.0, atol=0.0):
  assert jax.tree.structure(one) == jax.tree.structure(two)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def test_every_public_scorer_is_in_the_table():
  public = {n for n, v in vars(scores).items() if callable(v) and not n.startswith('_')}
  assert public == set(SCORERS) - VARIANTS


@each_scorer
def test_float32_of_the_params_shapes(row, key):
  narrow = {jnp.dtype(dtype).name: jnp.asarray(VALUES, dtype) for dtype in NARROW}
  params = make_params() | narrow
  found = row.call(params, key)
  assert jax.tree.structure(found) == jax.tree.structure(params)
  for leaf, score in zip(jax.tree.leaves(params), jax.tree.leaves(found), strict=True):
    assert isinstance(score, jax.Array)
    assert score.dtype == jnp.float32
    assert score.shape == leaf.shape
    assert not np.isnan(score).any()


@each_scorer
def test_float32_of_float64(row, key):
  enable = jax.enable_x64 if hasattr(jax, 'enable_x64') else jax.experimental.enable_x64
  with enable(True):
    found = row.call({'w': jnp.array([1e-300, 0.5, -2.0], jnp.float64)}, key)['w']
  assert found.dtype == jnp.float32
  assert not np.isnan(found).any()


@each_scorer
def test_is_pure(row, key):
  params = make_params()
  before = jax.tree.map(np.array, params)
  first, second = row.call(params, key), row.call(before, key)  # NumPy params are params
  assert_same(first, second)
  assert_same(params, before)
  jax.tree.map(lambda score: score.delete(), first)
  assert_same(params, before)


@each_scorer
def test_jit_gives_what_eager_gives(row, key):
  params = make_params()
  assert_same(jax.jit(row.call)(params, key), row.call(params, key), rtol=1e-6, atol=row.atol)


@each_scorer
def test_vmap_scores_each_model_by_itself(row, key):
  stacked, keys = make_params(leading=(3,)), jax.random.split(key, 3)
  found, single = jax.jit(jax.vmap(row.call))(stacked, keys), jax.jit(row.call)
  for i in range(3):
    one = single(jax.tree.map(lambda leaf, i=i: leaf[i], stacked), keys[i])
    assert_same(jax.tree.map(lambda leaf, i=i: leaf[i], found), one, rtol=1e-6, atol=row.atol)


@each_random
def test_vmap_over_keys_alone(row, key):
  params, keys = make_params(), jax.random.split(key, 2)
  found = jax.vmap(lambda k: row.call(params, k), out_axes=0)(keys)
  for i in range(2):
    one = row.call(params, keys[i])
    assert_same(jax.tree.map(lambda leaf, i=i: leaf[i], found), one, rtol=1e-6, atol=row.atol)


@each_scorer
def test_leaves_that_are_not_floating_have_no_scores(row, key):
  params = {
    'w': jnp.ones((2, 2)),
    'steps': jnp.array(3),
    'flags': jnp.array([True]),
    'none': None,
    'rng': jax.random.key(1),
    'act': jax.nn.relu,
  }
  found = row.call(params, key)
  assert set(found) == set(params)
  assert {name for name, score in found.items() if score is not None} == {'w'}


@each_scorer
def test_a_bare_array_is_a_tree(row, key):
  assert row.call(jnp.ones((2, 3)), key).shape == (2, 3)


@each_scorer
def test_an_empty_tree_is_refused(row, key):
  with pytest.raises(ValueError, match=r'\w+: `params` must be a tree with at least one leaf'):
    row.call({}, key)


@each_scorer
def test_shape_structs(row, key):
  struct = {'a': {'w': jax.ShapeDtypeStruct((2, 3), jnp.float32)}}
  if row.shapes_suffice:
    assert row.call(struct, key)['a']['w'].shape == (2, 3)
  else:
    with pytest.raises(TypeError, match=r"must be arrays; got a shape struct .* leaf 'a/w'"):
      row.call(struct, key)
  assert jax.eval_shape(row.call, struct, key)['a']['w'].shape == (2, 3)


@each_scorer
def test_no_nan_on_finite_params(row, key):
  compiled = jax.jit(row.call)
  for values in (
    [0.0, 0.0, 0.0],
    [0.0, -0.0, 1.0],
    [1e-45, 1e-40, -1e-38],
    [3.4e38, -3.4e38, 3.4e38],
    [1e-38, 1.0, 3e38],
    [1.0, 1.0, 1.0],
  ):
    params = {'w': jnp.asarray([values], jnp.float32)}
    assert not np.isnan(row.call(params, key)['w']).any(), values
    assert not np.isnan(compiled(params, key)['w']).any(), values


# By the partitioner under jit, by each operation outside of it.
@each_scorer
@pytest.mark.parametrize(
  ('kind', 'wrap'),
  [(AxisType.Auto, jax.jit), (AxisType.Explicit, lambda f: f)],
  ids=['auto-jit', 'explicit-eager'],
)
def test_sharding_is_kept(row, kind, wrap, key):
  mesh = jax.make_mesh((4, 2), ('x', 'y'), axis_types=(kind, kind))
  rng = np.random.default_rng(0)
  params = {
    'both': (rng.normal(size=(8, 6)), ('x', 'y')),
    'merged': (rng.normal(size=(16, 3)), (('x', 'y'), None)),
    'vector': (rng.normal(size=8), ('x',)),
  }
  local = {name: jnp.asarray(value, jnp.float32) for name, (value, _) in params.items()}
  shardings = {name: NamedSharding(mesh, PartitionSpec(*s)) for name, (_, s) in params.items()}
  found = wrap(row.call)(jax.device_put(local, shardings), key)
  for name, score in found.items():
    assert score.sharding.is_equivalent_to(shardings[name], score.ndim), name
  assert_same(found, row.call(local, key), rtol=1e-6, atol=row.atol)


@each_scorer
def test_a_leaf_stays_on_its_device(row, key):
  device = jax.devices()[3]
  found = row.call(jax.device_put({'w': make_params()['dense']['kernel']}, device), key)
  assert all(score.devices() == {device} for score in jax.tree.leaves(found))


@each_random
def test_the_key_decides_and_nothing_else(row):
  params = make_params()
  found, again, other = (row.call(params, jax.random.key(seed)) for seed in (7, 7, 8))
  assert_same(found, again)
  pairs = zip(jax.tree.leaves(found), jax.tree.leaves(other), strict=True)
  differs = [bool(np.any(one != two)) for one, two in pairs if one.size]
  assert all(differs)
