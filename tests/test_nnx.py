"""NNX modules as a function and its params: the same function, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jprune
import jprune.nnx

X = np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4)
PARAMS = ['hidden/bias', 'hidden/kernel', 'norm/bias', 'norm/scale', 'out/bias', 'out/kernel']
STATISTICS = ['norm/mean', 'norm/var']


class Network(nnx.Module):
  def __init__(self, rngs, rate=0.0):
    self.hidden = nnx.Linear(4, 16, rngs=rngs)
    self.norm = nnx.BatchNorm(16, momentum=0.5, rngs=rngs)
    self.dropout = nnx.Dropout(rate, rngs=rngs)
    self.out = nnx.Linear(16, 2, rngs=rngs)

  def __call__(self, x):
    return self.out(self.dropout(nnx.relu(self.norm(self.hidden(x)))))


class Tied(nnx.Module):
  """One kernel, used twice."""

  def __init__(self, rngs):
    self.one = nnx.Linear(4, 4, rngs=rngs)
    self.two = nnx.Linear(4, 4, rngs=rngs)
    self.two.kernel = self.one.kernel

  def __call__(self, x):
    return self.two(nnx.relu(self.one(x)))


class Leaving(nnx.Module):
  """A call leaves all kinds of things behind."""

  def __init__(self, rngs):
    self.linear = nnx.Linear(4, 3, rngs=rngs)
    self.cache = nnx.Cache(jnp.zeros((8, 3)))
    self.seen = nnx.Intermediate(jnp.zeros((8, 3)))
    self.steps = nnx.Variable(jnp.zeros((), jnp.int32))

  def __call__(self, x):
    y = self.linear(x) + self.cache[...]
    self.cache[...] = y
    self.steps[...] = self.steps[...] + 1
    self.seen[...] = y
    return y


def network(rate=0.0):
  return Network(nnx.Rngs(0, dropout=1), rate)


def paths(tree):
  return jprune.tree.flatten(tree)[0]


def arrays(tree):
  return {path: np.asarray(leaf) for path, leaf in zip(*jprune.tree.flatten(tree)[:2])}


def assert_equal(one, two):
  one, two = arrays(one), arrays(two)
  assert one.keys() == two.keys()
  for path in one:
    np.testing.assert_array_equal(one[path], two[path], err_msg=path)


# ------------------------------------------------------------------------------ the function


def test_paths_have_no_value_at_the_end():
  model = network()
  assert paths(nnx.state(model, nnx.Param)) == PARAMS
  _, params = jprune.nnx.functional(model)
  assert paths(params) == sorted(PARAMS + STATISTICS)


@pytest.mark.parametrize('jit', [False, True])
@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_the_function_equals_the_module(mode, jit):
  model = network(rate=0.5)
  getattr(model, mode)()
  fn, params = jprune.nnx.functional(model)
  out = (jax.jit(fn) if jit else fn)(params, X)
  np.testing.assert_allclose(out, model(X), rtol=1e-5, atol=1e-6)


def test_the_mode_is_that_of_the_module_when_it_was_taken():
  model = network()
  training, params = jprune.nnx.functional(model)
  model.eval()
  evaluating, _ = jprune.nnx.functional(model)
  assert not np.allclose(training(params, X), evaluating(params, X))


def test_a_call_changes_nothing():
  model = network(rate=0.5)
  before = arrays(nnx.state(model, nnx.Not(nnx.RngState)))
  fn, params = jprune.nnx.functional(model)
  first = fn(params, X)
  np.testing.assert_array_equal(first, fn(params, X))  # the same draws, the same statistics
  assert_equal(params, before)
  assert_equal(nnx.state(model, nnx.Not(nnx.RngState)), before)


def test_changing_the_module_does_not_change_params():
  model = network()
  _, params = jprune.nnx.functional(model)
  before = arrays(params)
  model(X)  # updates its running statistics
  model.out.bias[...] = jnp.ones(2)
  assert_equal(params, before)


def test_what_a_call_leaves_behind_is_no_param():
  fn, params = jprune.nnx.functional(Leaving(nnx.Rngs(0)))
  assert paths(params) == ['linear/bias', 'linear/kernel', 'steps']
  np.testing.assert_array_equal(fn(params, X), jax.jit(fn)(params, X))
  np.testing.assert_array_equal(fn(params, X), fn(params, X))


def test_statistics_are_params():
  model = network()
  model.eval()
  fn, params = jprune.nnx.functional(model)
  shifted = jax.tree.map(jnp.copy, params)
  shifted['norm']['mean'][...] = jnp.ones(16)
  assert not np.allclose(fn(params, X), fn(shifted, X))
  assert float(jnp.abs(jax.grad(lambda p: fn(p, X).sum())(params)['norm']['mean'][...]).sum()) > 0


def test_gradients():
  model = network()
  fn, params = jprune.nnx.functional(model, wrt=nnx.Param)
  assert paths(params) == PARAMS
  loss = lambda out: jnp.mean(out**2)
  grads = jax.jit(jax.grad(lambda params: loss(fn(params, X))))(params)
  expected = nnx.grad(lambda model: loss(model(X)))(model)
  for path, value in arrays(expected).items():
    np.testing.assert_allclose(arrays(grads)[path], value, rtol=1e-4, atol=1e-6)


def test_vmap_over_params_and_inputs():
  fn, params = jprune.nnx.functional(network())
  stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)
  out = jax.vmap(fn)(stacked, np.stack([X, X]))
  np.testing.assert_allclose(out[0], fn(params, X), rtol=1e-5, atol=1e-6)
  assert jax.vmap(fn, (None, 0))(params, np.stack([X, X, X])).shape == (3, 8, 2)


def test_tied_kernels_are_one_leaf():
  fn, params = jprune.nnx.functional(Tied(nnx.Rngs(0)))
  assert paths(params) == ['one/bias', 'one/kernel', 'two/bias']
  masked = jprune.apply(params, jprune.prune(params, 1.0))
  np.testing.assert_array_equal(fn(masked, X), np.zeros((8, 4)))


def test_shapes_are_enough():
  fn, params = jprune.nnx.functional(network())
  shapes = jax.eval_shape(lambda: params)
  assert jax.eval_shape(fn, shapes, jax.ShapeDtypeStruct((5, 4), jnp.float32)).shape == (5, 2)


def test_inside_of_jit():
  model = network()

  @nnx.jit
  def call(model, x):
    fn, params = jprune.nnx.functional(model)
    return fn(params, x)

  np.testing.assert_allclose(call(model, X), network()(X), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------ the way back


def test_merge_gives_a_new_module():
  model = network()
  fn, params = jprune.nnx.functional(model)
  before = arrays(params)
  pruned = jprune.apply(params, jprune.prune(params, 0.75))
  small = jprune.nnx.merge(model, pruned)
  assert isinstance(small, Network)
  np.testing.assert_allclose(small(X), fn(pruned, X), rtol=1e-5, atol=1e-6)  # and trains alone
  assert_equal(nnx.state(model, nnx.Not(nnx.RngState)), before)


def test_merge_leaves_other_variables():
  model = network()
  model(X)
  _, params = jprune.nnx.functional(model, wrt=nnx.Param)
  merged = jprune.nnx.merge(model, jax.tree.map(jnp.zeros_like, params))
  assert_equal(nnx.state(merged, nnx.BatchStat), nnx.state(model, nnx.BatchStat))
  assert not np.any(merged.out.kernel[...])


def test_merge_of_params_taken_before():
  model = network()
  _, params = jprune.nnx.functional(model)
  model.out.kernel[...] = jnp.zeros((16, 2))
  restored = jprune.nnx.merge(model, params)
  assert_equal(nnx.state(restored, nnx.Not(nnx.RngState)), params)


# ------------------------------------------------------------------------------------ errors


def test_no_module():
  linear = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
  state = nnx.state(linear)
  with pytest.raises(TypeError, match=r'functional: `model` must be an instance of flax\.nnx'):
    jprune.nnx.functional(state)
  with pytest.raises(TypeError, match=r'functional: `model` .* got the class Network'):
    jprune.nnx.functional(Network)
  with pytest.raises(TypeError, match=r'merge: `model` must be an instance of flax\.nnx\.Module'):
    jprune.nnx.merge(state, state)


def test_no_variables():
  with pytest.raises(ValueError, match='functional: `model` must be a module with array variab'):
    jprune.nnx.functional(nnx.Dropout(0.5))
  linear = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
  message = "functional: `wrt` must be a filter .*BatchStat.* selects none of 'bias', 'kernel'"
  with pytest.raises(ValueError, match=message):
    jprune.nnx.functional(linear, wrt=nnx.BatchStat)


def test_other_params():
  model = network()
  fn, params = jprune.nnx.functional(model)
  _, fewer = jprune.nnx.functional(model, wrt=nnx.Param)
  with pytest.raises(ValueError, match=r"functional: `params` .* got no leaf 'norm/mean', 'norm/v"):
    fn(fewer, X)
  more = {**arrays(params), 'scale': np.ones(3)}
  with pytest.raises(ValueError, match="got an unknown leaf 'scale'"):
    fn(more, X)


def test_merge_of_other_params():
  model = network()
  _, params = jprune.nnx.functional(model)
  with pytest.raises(ValueError, match=r"merge: `params` .* got an unknown leaf 'head/kernel'"):
    jprune.nnx.merge(model, {'head': {'kernel': np.ones((2, 2))}})
  with pytest.raises(
    ValueError, match=r"merge: .* shape \(4, 16\); got .* at leaf 'hidden/kernel'"
  ):
    jprune.nnx.merge(model, {'hidden': {'kernel': np.ones((4, 8), np.float32)}})
  with pytest.raises(ValueError, match='merge: `params` must be a tree with at least one leaf'):
    jprune.nnx.merge(model, jax.tree.map(lambda _: None, params))
