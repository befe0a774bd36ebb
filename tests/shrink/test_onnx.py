"""The small function through jax2onnx and ONNX Runtime; `.ci/run onnx` has both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jprune
import jprune.nnx

jax2onnx = pytest.importorskip('jax2onnx')
onnxruntime = pytest.importorskip('onnxruntime')

# Both warn of each other's older names.
pytestmark = [
  pytest.mark.filterwarnings('ignore::DeprecationWarning'),
  pytest.mark.filterwarnings('ignore:Explicitly requested dtype'),
]


@pytest.fixture(autouse=True)
def _promotion():
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):  # of jax2onnx
    yield


class Attention(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.LayerNorm()(nn.Dense(8)(x))
    x = x + nn.MultiHeadDotProductAttention(2)(x, x)
    return nn.Dense(3)(nn.gelu(nn.Dense(16)(x)))


class Module(nnx.Module):
  def __init__(self, rngs):
    self.up = nnx.Linear(4, 16, rngs=rngs)
    self.norm = nnx.LayerNorm(16, rngs=rngs)
    self.down = nnx.Linear(16, 3, rngs=rngs)

  def __call__(self, x):
    return self.down(nnx.gelu(self.norm(self.up(x))))


def linen():
  model = Attention()
  x = jnp.ones((2, 5, 4))
  return model.apply, model.init(jax.random.key(0), x), x


def of_nnx():
  return *jprune.nnx.functional(Module(nnx.Rngs(0))), jnp.ones((2, 4))


def plain():
  fn = lambda p, x: jnp.concatenate([jax.nn.relu(x @ p['a']), jnp.exp(x @ p['a'])], -1) @ p['b']
  params = {'a': jax.random.normal(jax.random.key(0), (4, 16)), 'b': jnp.ones((32, 3))}
  return fn, params, jnp.ones((2, 4))


@pytest.mark.parametrize('make', [linen, of_nnx, plain])
def test_any_batch(make):
  fn, params, x = make()
  graph = jprune.graph.channels(fn, params, x)
  masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5)
  small = jprune.shrink(fn, params, masks, x)
  assert small.plan.size[1] < 0.7 * small.plan.size[0]
  model = jax2onnx.to_onnx(lambda x: small.fn(small.params, x), [('B', *x.shape[1:])])
  session = onnxruntime.InferenceSession(model.SerializeToString())
  for batch in (1, 7):
    x = np.cos(np.arange(batch * x[0].size, dtype=np.float32)).reshape(batch, *x.shape[1:])
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    expected = fn(jprune.apply(params, masks), x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(small.fn(small.params, x), expected, rtol=1e-4, atol=1e-5)


def test_a_conversion_that_fails_leaves_no_trace():
  fn = lambda p, x: nnx.relu(x @ p['a']) @ p['b']  # for which jax2onnx has no implementation
  params = {'a': jnp.ones((3, 8)), 'b': jnp.ones((8, 2))}
  x, y, z = (jnp.ones((batch, 3)) for batch in (4, 5, 6))
  graph = jprune.graph.channels(fn, params, x)
  masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5)
  small = jprune.shrink(fn, params, masks, x)
  small.fn(small.params, z)
  for spec in ((5, 3), ('B', 3)):
    with pytest.raises(ValueError, match='Call small.fn with arguments of these shapes once'):
      jax2onnx.to_onnx(lambda x: small.fn(small.params, x), [spec])
  jax2onnx.to_onnx(lambda x: small.fn(small.params, x), [z.shape])
  for each in (y, z):
    expected = fn(jprune.apply(params, masks), each)
    np.testing.assert_allclose(small.fn(small.params, each), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(fn)(params, each), fn(params, each), rtol=1e-5)
