"""Masks of checkpoints that are read leaf by leaf, against those of params in memory."""

import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune import distributions, graph, io, scores
from jprune.io import LazyArray


def fn(params, x):
  step = lambda x, kernel: (jnp.tanh(x @ kernel @ kernel.T), None)
  x, _ = jax.lax.scan(step, x, params['layers']['kernel'])
  return x[:, :16] @ params['head']['kernel'] + params['head']['bias'][None]


@pytest.fixture(scope='module')
def params():
  one, two = jax.random.split(jax.random.key(0))
  return {
    'head': {'bias': jnp.zeros(8), 'kernel': jax.random.normal(one, (16, 8))},
    'layers': {'kernel': jax.random.normal(two, (4, 32, 16))},
  }


@pytest.fixture
def model(params, tmp_path):
  io.save(tmp_path / 'model', params, max_shard_size='2KB')
  with io.open(tmp_path / 'model') as model:
    yield model


X = jax.ShapeDtypeStruct((2, 32), jnp.float32)
HOW = {
  'uniform': {'sparsity': 0.5},
  'erk': {'sparsity': 0.7, 'distribution': distributions.erk},
  'fixed': {'distribution': distributions.fixed({'head/kernel': 0.25})},
  'lamp': {'sparsity': 0.5, 'scorer': scores.lamp},
  'where': {'sparsity': 0.5, 'where': 'head'},
  'bounds': {'sparsity': 0.9, 'min_keep': 3, 'per_output': True},
  'blocks': {'sparsity': 0.5, 'pattern': jprune.Block((2, 2))},
}
WITH_ROLES = {
  'two of four': {'pattern': jprune.NOfM(2, 4)},
  'erk of layers': {'sparsity': 0.7, 'distribution': distributions.erk},
}


@pytest.mark.parametrize('name', [*HOW, *WITH_ROLES])
def test_the_same_as_in_memory(name, params, model):
  how = HOW.get(name) or {**WITH_ROLES[name], 'roles': graph.roles(fn, params, X)}
  found = jprune.masks.unpack(jprune.prune(model, **how))
  jax.tree.map(np.testing.assert_array_equal, found, jprune.prune(params, **how))


def test_leaves_are_read_once_and_let_go(model, monkeypatch):
  read, alive = [], []

  def reading(self, index=None):
    assert not any(each() is not None for each in alive)
    values = original(self, index)
    read.append(self.path)
    alive.append(weakref.ref(values))
    return values

  original = LazyArray.read
  monkeypatch.setattr(LazyArray, 'read', reading)
  jprune.prune(model, 0.5)
  assert read == ['head/kernel', 'layers/kernel']


def test_each_leaf_has_a_key_of_its_own(tmp_path):
  io.save(
    tmp_path / 'alike', {'a': jnp.ones((16, 16)), 'b': jnp.ones((16, 16))}, max_shard_size='1KB'
  )
  with io.open(tmp_path / 'alike') as model:
    masks = jprune.prune(model, 0.5, scorer=scores.random, key=jax.random.key(0))
  assert (np.asarray(masks['a'].bits) != np.asarray(masks['b'].bits)).any()


@pytest.mark.parametrize(
  ('how', 'told'),
  [
    ({'distribution': distributions.global_}, '`distribution` must be one that looks at shapes'),
    ({'masks': {}}, '`masks` must be None, for a checkpoint'),
    ({'scorer': {}}, '`scorer` must be a function of params, for a checkpoint'),
  ],
  ids=['distribution', 'masks', 'scorer'],
)
def test_what_goes_with_memory_only(how, told, model):
  with pytest.raises(ValueError, match=f'prune: {told}'):
    jprune.prune(model, 0.5, **how)


def test_groups_go_with_memory_only(params, model):
  groups = jprune.ChannelGroups(graph.channels(fn, params, X))
  with pytest.raises(ValueError, match='prune: `pattern` must be one of single leaves'):
    jprune.prune(model, 0.5, pattern=groups)


@pytest.mark.parametrize(
  ('name', 'call'),
  [
    ('capture', graph.capture),
    ('verify', lambda fn, params, x: graph.verify(fn, params, {}, x)),
    (
      'reconstruct.prune',
      lambda fn, params, x: jprune.reconstruct.prune(fn, params, [x], sparsity=0.5),
    ),
  ],
)
def test_what_runs_a_function_needs_values(name, call, model):
  wanted = (
    rf"{name}: `params` must be arrays in memory; got LazyArray.* at leaf 'head/bias'. .*asarray"
  )
  with pytest.raises(TypeError, match=wanted):
    call(fn, model.params, jnp.ones((2, 32)))
