"""A small model in one file: what a fresh process makes of it."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from flax.core import freeze

import jprune
import jprune.nnx
from jprune._shrink import Plan, Shrunk

X = np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(4, 3)


class Linen(nn.Module):
  @nn.compact
  def __call__(self, x, train=False):
    x = nn.BatchNorm(use_running_average=not train)(nn.Dense(16)(x))
    return nn.Dense(2)(nn.gelu(x))


def linen():
  return Linen().apply, jax.jit(Linen().init)(jax.random.key(0), X)


def of_nnx():
  rngs = nnx.Rngs(0)
  layers = [nnx.Linear(3, 8, rngs=rngs), nnx.relu]
  layers += [layer for _ in range(5) for layer in (nnx.Linear(8, 8, rngs=rngs), nnx.relu)]
  return jprune.nnx.functional(nnx.Sequential(*layers, nnx.Linear(8, 2, rngs=rngs)))


def plain():
  fn = lambda params, x: jnp.tanh(x @ params[0][0] + params[0][1][None]) @ params[1]['out']
  rng = np.random.default_rng(0)
  values = [jnp.asarray(rng.standard_normal(s), jnp.float32) for s in ((3, 8), (8,), (8, 2))]
  return fn, [(values[0], values[1]), {'out': values[2], 'none': None}]


MADE = {'linen': linen, 'nnx': of_nnx, 'plain': plain}


def shrunk(fn, params):
  graph = jprune.graph.channels(fn, params, X)
  scores = jprune.scores.magnitude(params)
  return jprune.shrink(fn, params, jprune.masks.channels(scores, graph, 0.5), X)


def by_path(tree):
  return dict(zip(*jprune.tree.flatten(tree)[:2]))


def check(folder):
  """What a fresh process does, with the model's code and two files."""
  for name, make in MADE.items():
    fn, params = make()
    again = jprune.load_shrunk(folder / f'{name}.safetensors', fn)
    expected = np.load(folder / f'{name}.npz')
    np.testing.assert_allclose(again.fn(again.params, X), expected['out'], rtol=1e-5, atol=1e-6)
    slope = jax.grad(lambda p, again=again: again.fn(p, X).sum())(again.params)
    for path, leaf in by_path(slope).items():
      np.testing.assert_allclose(leaf, expected[path], rtol=1e-4, atol=1e-5, err_msg=path)
    state = again.slice(optax.adam(0.1).init(params))
    assert jax.tree.leaves(jax.tree.map(jnp.shape, state[0].mu)) == jax.tree.leaves(
      jax.tree.map(jnp.shape, again.params)
    )
    full = again.plan.expand(again.params)
    assert {p: x.shape for p, x in by_path(full).items()} == dict(again.plan.shapes)


def test_in_a_fresh_process(tmp_path):
  for name, make in MADE.items():
    small = shrunk(*make())
    assert small.plan.size[1] < 0.7 * small.plan.size[0]
    slope = by_path(jax.grad(lambda p, small=small: small.fn(p, X).sum())(small.params))
    np.savez(tmp_path / f'{name}.npz', out=small.fn(small.params, X), **slope)
    jprune.save_shrunk(tmp_path / f'{name}.safetensors', small)
  code = (
    'import pathlib, sys; from tests.io import test_shrunk as t; t.check(pathlib.Path(sys.argv[1]))'
  )
  done = subprocess.run([sys.executable, '-c', code, str(tmp_path)], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


def test_what_comes_back_is_what_was_saved(tmp_path):
  fn, variables = linen()
  small, path = shrunk(fn, variables), tmp_path / 'small'
  trained = jax.tree.map(lambda leaf: leaf + 1, small.params)
  jprune.save_shrunk(path, small, trained)
  params, masks = jprune.load(path)
  assert masks is None
  again = jprune.load_shrunk(path, fn)
  assert isinstance(again, Shrunk)
  assert again.plan == small.plan
  for tree in (params, again.params):
    assert jax.tree.structure(tree) == jax.tree.structure(trained)
    assert all((a == b).all() for a, b in zip(*map(jax.tree.leaves, (tree, trained))))
  # of training mode, with another function of the same params
  training = lambda v, x: Linen().apply(v, x, train=True, mutable=['batch_stats'])
  _, changed = jprune.load_shrunk(path, training).fn(trained, X)
  assert changed['batch_stats']['BatchNorm_0']['mean'].shape == (8,)


@pytest.mark.parametrize('full', [True, False])
def test_like_names_containers_and_devices(tmp_path, full):
  fn, variables = linen()
  small, path = shrunk(fn, variables), tmp_path / 'small'
  jprune.save_shrunk(path, small)
  like = freeze(variables if full else small.params)
  assert not any(leaf.committed for leaf in jax.tree.leaves(like))
  device = jax.devices()[2]
  for given, there in ((like, None), (jax.device_put(like, device), device)):
    again = jprune.load_shrunk(path, fn, given)
    assert jax.tree.structure(again.params) == jax.tree.structure(like)
    assert all(leaf.committed == bool(there) for leaf in jax.tree.leaves(again.params))
    np.testing.assert_allclose(again.fn(again.params, X), small.fn(small.params, X), rtol=1e-5)
  with pytest.raises(ValueError, match=r'^load_shrunk: `like` must be a tree with the leaf paths'):
    jprune.load_shrunk(path, fn, {'params': like['params']})
  with pytest.raises(ValueError, match=r'^load_shrunk: `like` must be float32 of shape'):
    jprune.load_shrunk(path, fn, jax.tree.map(lambda leaf: leaf[..., :1], like))


def test_what_can_not_be_saved_or_loaded(tmp_path):
  fn, params = plain()
  small, path = shrunk(fn, params), tmp_path / 'small'
  with pytest.raises(TypeError, match=r'^save_shrunk: `small` must be what jprune\.shrink ret'):
    jprune.save_shrunk(path, small.params)
  with pytest.raises(ValueError, match=r'^save_shrunk: `params` must be of shape .* at leaf'):
    jprune.save_shrunk(path, small, params)
  with pytest.raises(ValueError, match=r"^save_shrunk: `params` must be .* without '1/out'"):
    jprune.save_shrunk(path, small, small.params[:1])
  structs = Shrunk(small.fn, jax.eval_shape(lambda: small.params), small.plan)
  with pytest.raises(TypeError, match=r'^save_shrunk: `params` must be a tree of arrays'):
    jprune.save_shrunk(path, structs)
  assert not path.exists()
  jprune.save(path, small.params)
  with pytest.raises(ValueError, match=r'^load_shrunk: `path` must be a file that jprune\.save_'):
    jprune.load_shrunk(path, fn)
  jprune.save_shrunk(path, small)
  with pytest.raises(TypeError, match='^load_shrunk: `fn` must be a function'):
    jprune.load_shrunk(path, small.params)
  wrong = Plan({**small.plan.shapes, '0/0': (4, 8)}, small.plan.kept)
  jprune.io._save.write('save_shrunk', path, small.params, plan=wrong.to_dict())
  with pytest.raises(ValueError, match=r'^load_shrunk: `path` must be an undamaged .* not that of'):
    jprune.load_shrunk(path, fn)
  jprune.io._save.write('save_shrunk', path, small.params, plan={'format': 1})
  with pytest.raises(ValueError, match=r"^load_shrunk: `path` must be an undamaged .*'shapes'"):
    jprune.load_shrunk(path, fn)


def test_a_module_in_place_of_its_function(tmp_path):
  for fn, params, module, words in (
    (*linen(), Linen(), 'a linen module, Linen. Pass model.apply'),
    (*of_nnx(), nnx.Linear(3, 2, rngs=nnx.Rngs(0)), 'an NNX module, Linear. Write fn, params'),
  ):
    jprune.save_shrunk(tmp_path / 'small', shrunk(fn, params))
    again = jprune.load_shrunk(tmp_path / 'small', module)
    with pytest.raises(TypeError, match=f'^small.fn: `fn` must be a function of .* got {words}'):
      again.fn(again.params, X)


def test_another_function_than_the_one_that_was_shrunk(tmp_path):
  fn, params = plain()
  jprune.save_shrunk(tmp_path / 'small', shrunk(fn, params))
  again = jprune.load_shrunk(tmp_path / 'small', lambda params, x: x)
  words = r'got inputs .*: fn does not use it\. Shrink .* pass that one to load_shr'
  with pytest.raises(ValueError, match=words):
    again.fn(again.params, X)
