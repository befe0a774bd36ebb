"""Connection sensitivity against closed forms; what all scorers with a loss refuse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jprune import scores
from tests import reference_gradients as oracle

RNG = np.random.default_rng(0)
W, B = RNG.normal(size=(5, 3)), RNG.normal(size=3)
X, Y = RNG.normal(size=(4, 7, 5)), RNG.normal(size=(4, 7, 3))  # four batches
PARAMS = {'w': jnp.asarray(W, jnp.float32), 'b': jnp.asarray(B, jnp.float32)}


def loss_fn(params, batch):
  x, y = batch
  error = jnp.matmul(x, params['w'], precision='highest') + params['b'][None] - y
  return jnp.mean(jnp.sum(error**2, axis=1)) / 2


def batches(dtype=np.float32):
  return [(x.astype(dtype), y.astype(dtype)) for x, y in zip(X, Y)]


def mean_grads():
  found = [oracle.linear_grads(W, B, x, y) for x, y in zip(X, Y)]
  return {name: np.stack([each[i].mean(0) for each in found]) for i, name in enumerate('wb')}


ALL = {
  'snip': scores.snip,
  'taylor_batches': scores.taylor_batches,
  'taylor_samples': scores.taylor_samples,
  'grasp': scores.grasp,
  'fisher': scores.fisher,
  'obd': functools.partial(scores.obd, key=jax.random.key(0)),
}
each_scorer = pytest.mark.parametrize('name', ALL)


def test_linear_regression():
  found, grads = scores.snip(PARAMS, loss_fn, *batches()), mean_grads()
  np.testing.assert_allclose(found['w'], oracle.snip(W, grads['w']), rtol=1e-5)
  np.testing.assert_allclose(found['b'], oracle.snip(B, grads['b']), rtol=1e-5)


def test_is_the_derivative_by_a_gate():
  """The definition: how the loss moves with c in c * theta, at c = 1."""
  x, y = X[0], Y[0]

  def gated(gate):
    error = x @ (gate * W) + B - y
    return np.mean(np.sum(error**2, axis=1)) / 2

  found = scores.snip(PARAMS, loss_fn, batches()[0])['w']
  np.testing.assert_allclose(found, np.abs(oracle.gradient(gated, np.ones_like(W))), rtol=1e-5)


@pytest.mark.parametrize(
  'give',
  [iter, lambda b: (x for x in b), lambda b: dict(enumerate(b)).values()],
  ids=['iterator', 'generator', 'values'],
)
@each_scorer
def test_one_iterable_is_as_good_as_batches(name, give):
  one, two = ALL[name](PARAMS, loss_fn, *batches()), ALL[name](PARAMS, loss_fn, give(batches()))
  jax.tree.map(np.testing.assert_array_equal, one, two)


@each_scorer
def test_one_trace_for_all_batches_of_a_shape(name):
  traces = []

  def counted(params, batch):
    traces.append(1)
    return loss_fn(params, batch)

  ALL[name](PARAMS, counted, *batches()[:1])
  alone = len(traces)
  ALL[name](PARAMS, counted, *batches())
  assert len(traces) == 2 * alone


@each_scorer
def test_jit_of_the_whole(name):
  compiled = jax.jit(lambda params, data: ALL[name](params, loss_fn, *data))
  found = compiled(PARAMS, batches())
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
    found,
    ALL[name](PARAMS, loss_fn, *batches()),
  )


@each_scorer
def test_sums_of_bfloat16_gradients_are_float32(name):
  """257 equal gradients: a sum in bfloat16 would stop at 256."""
  params = {'w': jnp.ones(2, jnp.bfloat16)}
  loss = lambda p, x: jnp.sum(jnp.square(p['w'])) / 2 + 0 * jnp.sum(x).astype(jnp.bfloat16)
  data = [jnp.ones(1)] * 257
  sums = {'snip': 257.0, 'grasp': 257.0**2, 'fisher': 0.5, 'obd': 0.5}
  rtol = 0.01 if name == 'grasp' else 0  # its vector is a bfloat16
  found = ALL[name](params, loss, *data)['w']
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, sums.get(name, 1.0), rtol=rtol)


@each_scorer
def test_what_is_not_floating_is_held_fixed(name):
  params = {**PARAMS, 'index': jnp.array([2, 0, 1]), 'act': jnp.tanh, 'power': 2, 'none': None}

  def loss(p, batch):
    w = p['act'](p['w'] ** p['power'])[:, p['index']]
    return jnp.mean(jnp.matmul(batch[0], w) ** 2) + jnp.sum(p['b'] ** 2)

  found = ALL[name](params, loss, *batches())
  assert {key for key, value in found.items() if value is not None} == {'w', 'b'}
  assert np.any(found['w'] != 0)
  assert ALL[name]({'n': jnp.array(3)}, loss, *batches()) == {'n': None}


@each_scorer
@pytest.mark.parametrize('kind', [AxisType.Auto, AxisType.Explicit], ids=str)
def test_data_spread_over_devices(name, kind):
  mesh = jax.make_mesh((8,), ('d',), axis_types=(kind,))
  place = NamedSharding(mesh, PartitionSpec('d'))
  x, y = X.reshape(-1, 5)[:24].astype(np.float32), Y.reshape(-1, 3)[:24].astype(np.float32)
  expected = ALL[name](PARAMS, loss_fn, (x, y))
  params = jax.device_put(PARAMS, NamedSharding(mesh, PartitionSpec()))
  found = ALL[name](params, loss_fn, jax.device_put((x, y), place))
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  jax.tree.map(close, found, expected)


@each_scorer
def test_errors(name):
  call = ALL[name]
  none = rf'{name}: `batches` must be at least one; got none'
  with pytest.raises(ValueError, match=none):
    call(PARAMS, loss_fn)
  with pytest.raises(ValueError, match=none):
    call(PARAMS, loss_fn, iter([]))
  with pytest.raises(TypeError, match=rf'{name}: `loss_fn` must be a function of the p.* got int'):
    call(PARAMS, 3, *batches())
  scalar = rf'{name}: `loss_fn` must be a function that returns one floating scalar; got '
  with pytest.raises(TypeError, match=scalar + r'float32 of shape \(3,\)'):
    call(PARAMS, lambda p, batch: p['b'], *batches())
  with pytest.raises(TypeError, match=scalar + 'tuple'):
    call(PARAMS, lambda p, batch: (jnp.sum(p['b']), {}), *batches())
  with pytest.raises(TypeError, match=scalar + 'int32'):
    call(PARAMS, lambda p, batch: jnp.int32(3), *batches())
  with pytest.raises(TypeError, match=rf"{name}: `batches` .* got str in batch 1 at leaf '1/x'"):
    call(PARAMS, lambda p, b: jnp.sum(p['b']), batches()[0], (jnp.ones(7), {'x': 'text'}))
  with pytest.raises(ValueError, match=rf'{name}: `batches` must be .* got no array in batch 0'):
    call(PARAMS, loss_fn, iter([None]))


@each_scorer
@pytest.mark.parametrize('bad', [0, 2])
def test_derivatives_that_are_not_finite(name, bad):
  data = batches()
  data[bad][0][3, 1] = np.nan
  loss = lambda p, batch: loss_fn({'w': p['z/w'], 'b': p['a']}, batch)
  params = {'a': PARAMS['b'], 'z/w': PARAMS['w']}
  pattern = rf"{name}: `batches` must be such that der.* NaN ones in batch {bad} \(.*leaf 'a'"
  with pytest.raises(ValueError, match=pattern):
    ALL[name](params, loss, *data)


def test_an_endless_loader_stops_at_the_first_bad_batch():
  def endless():
    while True:
      yield jnp.ones(2)

  with pytest.raises(ValueError, match=r"infinite or NaN ones in batch 0 .* at leaf 'w'"):
    scores.snip({'w': jnp.zeros(2)}, lambda p, x: jnp.sum(jnp.sqrt(p['w']) * x), endless())


@pytest.mark.parametrize(
  'scorer',
  [
    scores.snip,
    scores.grasp,
    scores.fisher,
    functools.partial(scores.obd, key=jax.random.key(0)),
    scores.taylor_batches,
    scores.taylor_samples,
  ],
)
def test_a_list_of_batches_is_no_batch(scorer):
  params = {'w': jnp.ones((3, 2))}
  loss_fn = lambda p, batch: jnp.mean(jnp.square(batch[0] @ p['w'] - batch[1]))
  pairs = [(jnp.ones((n, 3)), jnp.zeros((n, 2))) for n in (4, 4, 2)]
  match = r'`batches` must be passed one by one; got one list of 3\. Unpack it'
  with pytest.raises(TypeError, match=match):
    scorer(params, loss_fn, pairs)
  with pytest.raises(TypeError, match=r'one list of 1\. Unpack'):
    scorer(params, loss_fn, pairs[:1])


def test_a_batch_may_be_a_list():
  one, two = (scores.snip(PARAMS, loss_fn, form(batches()[0]))['w'] for form in (tuple, list))
  np.testing.assert_array_equal(one, two)


def test_a_list_of_arrays_that_the_loss_cannot_take():
  loss_fn = lambda p, x: jnp.mean(x[:, :3] @ p['w'])
  params = {'w': jnp.ones((3, 2))}
  with pytest.raises(TypeError, match=r'one list of 2\. Unpack it: snip\(..., \*batches\)'):
    scores.snip(params, loss_fn, [jnp.ones((4, 3))] * 2)
  with pytest.raises(TypeError, match='list indices') as caught:
    scores.snip(params, loss_fn, [jnp.ones((4, 2))] * 2)  # of which one by itself is no batch
  assert 'If it is a list of batches, unpack it with *.' in str(caught.value.__notes__)
