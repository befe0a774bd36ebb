"""``keep_pruned`` beyond what tests/contract says of every transformation and optimizer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jprune
from jprune.masks import PackedMask, pack
from jprune.transforms import keep_pruned

MASK = jnp.array([True, False, True, False])


def after_one_step(param, update, mask=MASK):
  tx = keep_pruned({'w': mask})
  params = {'w': param}
  updates, _ = jax.jit(tx.update)({'w': update}, tx.init(params), params)
  return jax.jit(optax.apply_updates)(params, updates)['w'], updates['w']


def test_the_published_example_of_masked_sgd():
  # open_lth: weights 0..9, input of ones, label 40, squared error, every second weight pruned.
  mask = jnp.arange(10) % 2 == 0
  params = {'w': jnp.where(mask, jnp.arange(10.0), 0.0)}
  loss = lambda params: (jnp.sum(params['w']) - 40.0) ** 2
  tx = optax.chain(optax.sgd(0.01), keep_pruned({'w': mask}))
  updates, _ = tx.update(jax.grad(loss)(params), tx.init(params), params)
  params = optax.apply_updates(params, updates)
  expected = [0.4, 0, 2.4, 0, 4.4, 0, 6.4, 0, 8.4, 0]
  np.testing.assert_allclose(params['w'], expected, rtol=1e-6)
  np.testing.assert_allclose(jnp.sum(params['w']), 22.0, rtol=1e-6)


@pytest.mark.parametrize(
  'dtype', [jnp.float32, jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn, jnp.float8_e5m2]
)
def test_every_value_but_infinity_and_nan_goes_to_positive_zero(dtype):
  info = jnp.finfo(dtype)
  values = [0.0, -0.0, info.max, info.min, info.tiny, -info.smallest_subnormal, 1.5, -0.25]
  param = jnp.array([float(value) for value in values]).astype(dtype)
  for update in (1.0, -0.0, jnp.nan, jnp.inf, -jnp.inf):
    moved, _ = after_one_step(param, jnp.full(8, update, dtype), jnp.zeros(8, bool))
    moved = np.asarray(moved.astype(jnp.float32))
    assert (moved == 0).all()
    assert not np.signbit(moved).any()


def test_kept_weights_may_hold_anything():
  param = jnp.array([jnp.inf, 1.0, jnp.nan, 1.0])
  moved, updates = after_one_step(param, jnp.array([1.0, 1.0, 1.0, 1.0]))
  np.testing.assert_array_equal(moved, [jnp.inf, 0.0, jnp.nan, 0.0])
  np.testing.assert_array_equal(updates, [1.0, -1.0, 1.0, -1.0])


@pytest.mark.parametrize(
  ('param', 'update', 'result'),
  [
    (jnp.float32, jnp.float32, jnp.float32),
    (jnp.bfloat16, jnp.float32, jnp.float32),
    (jnp.float32, jnp.bfloat16, jnp.float32),
    (jnp.float32, jnp.float16, jnp.float32),
    (jnp.float16, jnp.bfloat16, jnp.float32),
    (jnp.bfloat16, jnp.bfloat16, jnp.bfloat16),
  ],
)
def test_updates_come_in_a_dtype_that_holds_the_params(param, update, result):
  values = jnp.array([1.0, 1.001, 3.0, -6.1e-5])
  with jax.numpy_dtype_promotion('standard'):  # apply_updates adds the two
    moved, updates = after_one_step(values.astype(param), jnp.full(4, 0.1, update))
  assert updates.dtype == result
  assert moved.dtype == param
  assert (moved[1::2] == 0).all()
  # What is added to a kept weight is what was to be added, as narrow as it was.
  np.testing.assert_array_equal(updates[::2], jnp.full(2, 0.1, update).astype(result))


def test_mixed_dtypes_under_strict_promotion():
  tx = keep_pruned({'w': MASK})
  params = {'w': jnp.ones(4, jnp.bfloat16)}
  updates, _ = tx.update({'w': jnp.ones(4)}, tx.init(params), params)
  cast = jax.tree.map(lambda u, p: u.astype(p.dtype), updates, params)
  assert optax.apply_updates(params, cast)['w'].tolist() == [2, 0, 2, 0]


def test_complex_params():
  moved, _ = after_one_step(jnp.full(4, 1 + 2j), jnp.full(4, 1j))
  assert moved.tolist() == [1 + 3j, 0, 1 + 3j, 0]


def test_scalar_params_and_bare_arrays():
  for mask in (jnp.array(False), pack(jnp.array(False))):
    tx = keep_pruned(mask)
    updates, _ = tx.update(0.5, tx.init(2.0), 2.0)
    assert optax.apply_updates(2.0, updates) == 0.0


def test_an_update_of_none_leaves_kept_weights_as_they_are():
  # equinox.apply_updates takes None for "no change"; pruned weights still have to go.
  tx = keep_pruned({'w': MASK})
  params = {'w': jnp.array([-0.0, 1.0, 2.0, 3.0])}
  updates, _ = tx.update({'w': None}, tx.init(params), params)
  moved = np.asarray(optax.apply_updates(params, updates)['w'])
  np.testing.assert_array_equal(moved, [0.0, 0.0, 2.0, 0.0])
  np.testing.assert_array_equal(np.signbit(moved), [True, False, False, False])


def test_update_without_params():
  tx = keep_pruned({'w': MASK})
  state = tx.init({'w': jnp.ones(4)})
  match = r'keep_pruned: `params` must be the params .* got None. Call tx.update\(updates, state, p'
  with pytest.raises(ValueError, match=match):
    tx.update({'w': jnp.ones(4)}, state)


def test_update_with_other_params():
  tx = keep_pruned({'w': MASK})
  params = {'w': jnp.ones(4)}
  match = "keep_pruned: `params` must be a tree .* got an unknown leaf 'v'. Call tx.init"
  with pytest.raises(ValueError, match=match):
    tx.update(params, tx.init(params), {**params, 'v': jnp.ones(4)})


@pytest.mark.parametrize('bad', [jnp.inf, -jnp.inf, jnp.nan])
def test_params_that_no_update_can_take_to_zero(bad):
  params = {'w': jnp.array([1.0, bad, bad, 1.0])}
  match = "`params` must be finite where they are pruned; got 1 infinite or NaN at leaf 'w'. No upd"
  with pytest.raises(ValueError, match=match):
    keep_pruned({'w': MASK}).init(params)
  jax.jit(keep_pruned({'w': MASK}).init)(params)  # values are looked at where they can be


class Model(nnx.Module):
  def __init__(self, rngs):
    self.inner = nnx.Linear(4, 8, rngs=rngs)
    self.norm = nnx.BatchNorm(8, rngs=rngs)
    self.outer = nnx.Linear(8, 2, rngs=rngs)

  def __call__(self, x):
    return self.outer(nnx.relu(self.norm(self.inner(x))))


def arrays(tree):
  """What the variables of a tree hold (flax 0.12 has nnx.as_pure)."""
  is_variable = lambda node: isinstance(node, nnx.Variable)
  held = lambda node: jax.tree.leaves(node, is_leaf=lambda child: child is not node)[0]
  unbox = lambda node: held(node) if is_variable(node) else node
  return jax.tree.map(unbox, tree, is_leaf=is_variable)


def two_dimensional(params):
  return jax.tree.map(lambda leaf: leaf > 0 if leaf.ndim == 2 else None, params)


@pytest.mark.parametrize('form', [lambda masks: masks, pack], ids=['bool', 'packed'])
@pytest.mark.parametrize('pure', [False, True], ids=['variables', 'arrays'])
def test_nnx_optimizer(form, pure):
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    model = Model(nnx.Rngs(0))
    params = nnx.state(model, nnx.Param)
    masks = two_dimensional(arrays(params) if pure else params)
    tx = optax.chain(optax.adamw(0.1), keep_pruned(form(masks)))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x):
      grads = nnx.grad(lambda model: jnp.mean(model(x) ** 2))(model)
      optimizer.update(model, grads)

    for _ in range(4):
      step(model, optimizer, jnp.ones((3, 4)) + jnp.arange(4))
  after = arrays(nnx.state(model, nnx.Param))
  masks = arrays(masks)
  for layer in ('inner', 'outer'):
    assert (after[layer]['kernel'][~masks[layer]['kernel']] == 0).all()
    assert (after[layer]['kernel'][masks[layer]['kernel']] != 0).any()
  held = arrays(optax.tree.get(optimizer.opt_state, 'masks'))
  if form is pack:
    assert isinstance(held['inner']['kernel'], PackedMask)
  else:
    np.testing.assert_array_equal(held['inner']['kernel'], masks['inner']['kernel'])


@pytest.mark.parametrize('form', [lambda masks: masks, pack], ids=['bool', 'packed'])
def test_nnx_state_in_a_plain_loop(form):
  with jax.numpy_dtype_promotion('standard'):
    graphdef, params, rest = nnx.split(Model(nnx.Rngs(0)), nnx.Param, ...)
    masks = two_dimensional(params)
    tx = optax.chain(optax.adamw(0.1), keep_pruned(form(masks)))
    state = tx.init(params)
    for _ in range(2):
      updates, state = tx.update(params, state, params)
      params = optax.apply_updates(params, updates)
  nnx.merge(graphdef, params, rest)
  kernel, mask = params['inner']['kernel'][...], masks['inner']['kernel'][...]
  assert (kernel[~mask] == 0).all()


@pytest.mark.parametrize('kind', ['bools', 'packed', 'sharded'])
def test_masks_are_swapped_without_compiling_anew(kind, compilations):
  params = {'w': jnp.cos(jnp.arange(128.0)).reshape(8, 16), 'b': jnp.ones(16)}
  if kind == 'sharded':
    mesh = jax.make_mesh((8,), ('a',), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('a'))
    params = jax.device_put(params, spec)
  held = jprune.masks.pack if kind == 'packed' else lambda masks: masks
  masks = jprune.prune(params, 0.0, where='w')
  tx = optax.chain(optax.trace(0.9), jprune.keep_pruned(held(masks)))

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, state):
    updates, state = tx.update(jax.tree.map(lambda p: -0.1 * p, params), state, params)
    return optax.apply_updates(params, updates), state

  state = jax.tree.map(
    lambda x: jax.device_put(x, spec) if kind == 'sharded' else x, tx.init(params)
  )
  wide, compiled = params['w'], []
  for sparsity in (0.25, 0.5, 0.75):
    masks = jprune.prune(params, sparsity, masks=masks, where='w')
    new = held(masks)
    state = optax.tree.set(state, masks=jax.tree.map(jnp.copy, new))
    before = len(compilations)
    params, state = step(params, state)
    compiled.append(len(compilations) - before)
    np.testing.assert_array_equal(params['w'] != 0, masks['w'])
    assert float(optax.tree.get(state, 'trace')['b'].min()) != 0.0
  assert compiled == [1, 0, 0]
  assert params['w'].sharding == wide.sharding
  assert int((params['w'] == 0).sum()) == 96


@pytest.mark.parametrize('make', [keep_pruned, jprune.mask_updates, jprune.transforms.growing])
def test_masks_that_no_program_can_hold(make, monkeypatch):
  """As those that span processes, of which there is one here."""
  monkeypatch.setattr('jprune._hosts.spans', lambda *trees: True)
  params = {'w': jnp.ones((2, 3))}
  masks = {'w': jnp.ones((2, 3), bool)}
  for held in (masks, pack(masks)):
    expected = jax.eval_shape(lambda m: make(m).init(params), held)
    assert jax.eval_shape(make(held).init, params) == expected
    match = 'must be arguments .*; got (bool|uint8).*, closed over. Call tx.init outside of jax.jit'
    with pytest.raises(ValueError, match=match):
      jax.jit(make(held).init)(params)
