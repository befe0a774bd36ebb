"""NNX modules as a function and its params: the same function, masks on states, exact zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
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


def assert_zero_where_pruned(params, masks):
  weights, masks = arrays(params), arrays(masks)
  assert masks
  for path, mask in masks.items():
    assert not mask.all(), path
    assert np.all(weights[path][~mask] == 0.0), path


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


# ------------------------------------------------------------------------- masks on states


def test_masks_have_the_structure_of_the_state():
  _, params = jprune.nnx.functional(network())
  masks = jprune.prune(params, 0.75)
  assert isinstance(masks, nnx.State)
  assert paths(masks) == ['hidden/kernel', 'out/kernel']
  assert int((~masks['hidden']['kernel'][...]).sum()) == 48
  pruned = jprune.apply(params, masks)
  assert isinstance(pruned, nnx.State)
  assert_zero_where_pruned(pruned, masks)


@pytest.mark.parametrize('distribution', ['uniform', 'erk', 'global_'])
def test_a_state_of_one_layer(distribution):
  # Its keys are leaf paths, so it looks like a dict from path to number.
  params = nnx.state(nnx.Linear(4, 2, rngs=nnx.Rngs(0)))
  masks = jprune.prune(params, 0.5, distribution=getattr(jprune.distributions, distribution))
  assert paths(masks) == ['kernel']
  assert int(masks['kernel'][...].sum()) == 4


def test_where_names_leaves_as_linen_does():
  masks = jprune.prune(nnx.state(network()), 0.5, where='^hidden/kernel$')
  assert paths(masks) == ['hidden/kernel']


def test_tally():
  model = network()
  _, params = jprune.nnx.functional(model)
  masks = jprune.prune(params, 0.75)
  report = jprune.tally(params, masks)
  assert [row.path for row in report.rows] == sorted(PARAMS + STATISTICS)
  assert report.nonzero == report.size - 48 - 24
  text = str(report)
  assert 'norm/mean' in text
  assert '/value' not in text


@pytest.mark.parametrize('packed', [False, True])
def test_save_and_load(tmp_path, packed):
  model = network()
  fn, params = jprune.nnx.functional(model)
  masks = jprune.prune(params, 0.75)
  pruned = jprune.apply(params, masks)
  file = tmp_path / 'model.safetensors'
  jprune.save(file, pruned, jprune.masks.pack(masks) if packed else masks)
  loaded, found = jprune.load(file, like=params)
  assert isinstance(loaded, nnx.State)
  assert_equal(loaded, pruned)
  assert_equal(jprune.masks.unpack(found) if packed else found, masks)
  np.testing.assert_array_equal(fn(loaded, X), fn(pruned, X))


def test_plain_dicts_from_a_file_fit_too(tmp_path):
  fn, params = jprune.nnx.functional(network())
  jprune.save(tmp_path / 'model.safetensors', params)
  loaded, _ = jprune.load(tmp_path / 'model.safetensors')
  assert type(loaded) is dict
  np.testing.assert_array_equal(fn(loaded, X), fn(params, X))
  assert_equal(nnx.state(jprune.nnx.merge(network(), loaded), nnx.Not(nnx.RngState)), params)


@pytest.mark.parametrize('packed', [False, True])
def test_optimizer_keeps_exact_zeros(packed):
  model = network(rate=0.25)
  params = nnx.state(model, nnx.Param)
  masks = jprune.prune(params, 0.75)
  nnx.update(model, jprune.apply(params, masks))
  held = jprune.masks.pack(masks) if packed else masks
  tx = optax.chain(optax.sgd(0.1, momentum=0.9), jprune.keep_pruned(held))
  optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

  @nnx.jit
  def step(model, optimizer, x):
    grads = nnx.grad(lambda model: jnp.mean((model(x) - 1.0) ** 2))(model)
    optimizer.update(model, grads)

  for _ in range(5):
    before = arrays(nnx.state(model, nnx.Param))
    step(model, optimizer, X)
    after = nnx.state(model, nnx.Param)
    assert_zero_where_pruned(after, masks)
    kept = arrays(masks)['out/kernel']
    assert np.any(arrays(after)['out/kernel'][kept] != before['out/kernel'][kept])


def test_functional_params_train_with_plain_optax():
  fn, params = jprune.nnx.functional(network(), wrt=nnx.Param)
  masks = jprune.prune(params, 0.75)
  params = jprune.apply(params, masks)
  tx = optax.chain(optax.sgd(0.1), jprune.keep_pruned(masks))

  @jax.jit
  def step(params, opt_state):
    grads = jax.grad(lambda params: jnp.mean(fn(params, X) ** 2))(params)
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  opt_state = tx.init(params)
  for _ in range(5):
    params, opt_state = step(params, opt_state)
    assert_zero_where_pruned(params, masks)


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
