"""How models of other libraries become a function and its params, and what comes back."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import jprune
from tests.shrink import _masks

X = jnp.asarray(np.linspace(-1.0, 1.0, 24, dtype=np.float32).reshape(8, 3))


def halved(fn, params, *args):
  """The masked and the shrunk function of half of the channels."""
  graph = jprune.graph.channels(fn, params, *args)
  masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5)
  small = jprune.shrink(fn, params, masks, *args)
  assert small.plan.size[1] < 0.7 * small.plan.size[0]
  return jprune.apply(params, masks), small


def same(a, b):
  _masks.assert_same(a, b, 1e-5, overall=True)


class Network(nn.Module):
  @nn.compact
  def __call__(self, x, train=False):
    x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(nn.Dense(8)(x))
    return nn.Dense(2)(nn.relu(x))


def test_linen_with_mutable():
  model = Network()
  variables = jax.jit(model.init)(jax.random.key(0), X)
  training = lambda variables, x: model.apply(variables, x, train=True, mutable=['batch_stats'])
  masked, small = halved(training, variables, X)
  out, changed = training(masked, X)
  small_out, small_changed = small.fn(small.params, X)
  same(out, small_out)
  same(small.slice(changed), small_changed)
  assert small_changed['batch_stats']['BatchNorm_0']['mean'].shape == (4,)


# --------------------------------------------------------------------------------------- Haiku

Transformed = collections.namedtuple('Transformed', 'init, apply')


def transform_with_state():
  """What ``hk.transform_with_state`` makes of a network with a BatchNorm, its names included."""

  def init(rng, x):
    rng = jax.random.split(rng)
    w = lambda key, *shape: jax.random.normal(key, shape) / 2
    params = {
      'net/~/linear_0': {'w': w(rng[0], x.shape[1], 8), 'b': jnp.zeros(8)},
      'net/~/batch_norm': {'scale': jnp.ones((1, 8)), 'offset': jnp.zeros((1, 8))},
      'net/~/linear_1': {'w': w(rng[1], 8, 2), 'b': jnp.zeros(2)},
    }
    mean = {'average': jnp.zeros((1, 8)), 'counter': jnp.zeros((), jnp.int32)}
    return params, {'net/~/batch_norm/~/mean_ema': mean}

  def apply(params, state, rng, x):
    del rng
    names = 'linear_0', 'batch_norm', 'linear_1'
    first, norm, last = (params[f'net/~/{name}'] for name in names)
    x = x @ first['w'] + first['b'][None]
    (name, old), mean = *state.items(), x.mean(0, keepdims=True)
    x = jax.nn.relu((x - mean) * norm['scale'] + norm['offset'])
    new = {'average': 0.9 * old['average'] + 0.1 * mean, 'counter': old['counter'] + 1}
    return x @ last['w'] + last['b'][None], {name: new}

  return Transformed(init, apply)


def test_haiku_with_state():
  model = transform_with_state()
  params, state = model.init(jax.random.key(0), X)

  def fn(both, x):  # the new state has the path of the old one
    out, state = model.apply(both['params'], both['state'], None, x)
    return out, {'state': state}

  masked, small = halved(fn, {'params': params, 'state': state}, X)
  out, changed = fn(masked, X)
  for x in (X, X[:5]):
    same(fn(masked, x)[0], small.fn(small.params, x)[0])
  small_changed = small.fn(small.params, X)[1]
  same(small.slice(changed), small_changed)
  (mean,) = small_changed['state'].values()
  assert mean['average'].shape == (1, 4)
  again, _ = small.fn({**small.params, **small_changed}, X)
  same(out, again)


# --------------------------------------------------------------------------- Hugging Face Flax


class Encoder(nn.Module):
  @nn.compact
  def __call__(self, ids, attention_mask, deterministic=True):
    x = nn.Embed(11, 8)(ids)
    y = nn.MultiHeadDotProductAttention(2)(x, x, mask=attention_mask[:, None, None] > 0)
    y = nn.Dropout(0.1)(y, deterministic=deterministic)
    x = nn.LayerNorm()(x + y)
    return nn.Dense(3)(nn.gelu(nn.Dense(16)(x)).mean(1))


@jax.tree_util.register_pytree_with_keys_class
class ModelOutput(collections.OrderedDict):
  """As of transformers: a dict whose entries are attributes too."""

  def __getattr__(self, name):
    return self[name]

  def tree_flatten_with_keys(self):
    return [(jax.tree_util.DictKey(key), value) for key, value in self.items()], tuple(self)

  @classmethod
  def tree_unflatten(cls, keys, values):
    return cls(zip(keys, values))


class FlaxModel:
  """As ``FlaxPreTrainedModel`` of transformers 4: it holds params, and takes others."""

  def __init__(self, seed=0):
    self.module = Encoder()
    ids = jnp.zeros((1, 4), jnp.int32)
    self.params = jax.jit(self.module.init)(jax.random.key(seed), ids, ids + 1)['params']

  def __call__(self, input_ids, attention_mask=None, params=None, dropout_rng=None, train=False):
    if attention_mask is None:
      attention_mask = jnp.ones_like(input_ids)
    rngs = {} if dropout_rng is None else {'dropout': dropout_rng}
    ids, seen = (jnp.array(each, dtype='i4') for each in (input_ids, attention_mask))
    logits = self.module.apply({'params': params or self.params}, ids, seen, not train, rngs=rngs)
    return ModelOutput(logits=logits)


def test_hugging_face():
  model = FlaxModel()
  ids = jnp.asarray(np.random.default_rng(0).integers(0, 11, (2, 6)))
  seen = jnp.ones_like(ids).at[1, 4:].set(0)
  # the model's params are held: the function must take them as an argument
  fn = lambda params, ids, seen: model(ids, attention_mask=seen, params=params)
  masked, small = halved(fn, model.params, ids, seen)
  found = small.fn(small.params, ids, seen)
  assert isinstance(found, ModelOutput)
  same(fn(masked, ids, seen), found)
  training = lambda params, ids, key: model(ids, params=params, dropout_rng=key, train=True).logits
  key = jax.random.key(1)
  small = jprune.shrink(training, masked, small.plan.expand(ones(small.params)), ids, key)
  same(training(masked, ids, key), small.fn(small.params, ids, key))


def ones(params):
  return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), params)


# ------------------------------------------------------------------------------------- NumPyro


def test_numpyro():
  """Sites by name: a module's params under ``name$params``, others beside them, guides' as well."""
  module = Network()
  variables = jax.jit(module.init)(jax.random.key(0), X)
  params = {
    'net$params': variables['params'],
    'auto_scale': jnp.ones(3),
    'w_loc': jax.random.normal(jax.random.key(1), (3, 8)),
    'w_scale': jnp.ones((3, 8)),
    'v_loc': jax.random.normal(jax.random.key(2), (8, 2)),
  }

  def fn(params, x, key):
    rest = {'batch_stats': variables['batch_stats']}
    mean = module.apply({'params': params['net$params'], **rest}, x * params['auto_scale'][None])
    w = params['w_loc'] + 0.1 * params['w_scale'] * jax.random.normal(key, (3, 8))
    return mean + jnp.tanh(x @ w) @ params['v_loc']

  key = jax.random.key(3)
  masked, small = halved(fn, params, X, key)
  same(fn(masked, X, key), small.fn(small.params, X, key))
  assert small.params['net$params']['Dense_0']['kernel'].shape == (3, 4)
