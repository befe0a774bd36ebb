"""``keep_pruned`` behind every optimizer that the installed optax exports.

Pruned weights are exactly 0.0 after each step, and kept weights are, bit for bit, those of the
same optimizer followed by a masking by hand. Both runs compile the update on its own: fused with
``apply_updates``, XLA is free to contract a multiplication and an addition in one of them.
"""

import functools
import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from jprune.masks import pack
from jprune.transforms import keep_pruned, mask_updates

STEPS = 20
MASKS = {'kernel': jnp.arange(24).reshape(4, 6) % 3 == 0, 'bias': None}

# What an optimizer may ask for besides a learning rate.
ARGUMENTS = {
  'learning_rate': 0.05,
  'base_optimizer': optax.sgd(0.05),
  'l2_norm_clip': 1.0,
  'noise_multiplier': 0.1,
  'seed': 0,
  'key': 0,
}


@pytest.fixture(autouse=True)
def _optax_promotes():
  # optax mixes dtypes in most optimizers (adam raises a float to an int32); tests/transforms run
  # jprune's own code under strict promotion.
  with jax.numpy_dtype_promotion('standard'):
    yield


def exported():
  """Name -> factory, for everything in optax that takes some learning rate."""
  found = {}
  for module in (optax, optax.contrib):
    for name, value in vars(module).items():
      # scale_by_...: what the optimizers are made of, with a learning rate for the line search.
      if name.startswith(('_', 'scale_by_')):
        continue
      if not (inspect.isfunction(value) or isinstance(value, functools.partial)):
        continue
      if any('learning_rate' in argument for argument in inspect.signature(value).parameters):
        found[name] = value
  return found


OPTIMIZERS = exported()


def make(name):
  """An optimizer with what its signature asks for; a new kind of argument goes in ARGUMENTS."""
  factory = OPTIMIZERS[name]
  asked = inspect.signature(factory).parameters.values()
  required = [
    each.name for each in asked if each.default is each.empty and each.kind != each.VAR_KEYWORD
  ]
  required += ['key'] * any(each.name == 'key' for each in asked)  # noisy_sgd warns without
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', DeprecationWarning)  # dpsgd passes its seed on as a key
    return factory(**{argument: ARGUMENTS[argument] for argument in required})


def loss_fn(params, obj_fn=None):
  del obj_fn  # sophia takes it, and line searches pass on to the loss what they don't know
  x = (jnp.arange(12.0).reshape(3, 4) / 10 - 0.5).astype(params['kernel'].dtype)
  y = jnp.tanh(x @ params['kernel'] + params['bias'][None])
  return jnp.sum((y - 0.3).astype(jnp.float32) ** 2)


value_and_grad = jax.jit(jax.value_and_grad(loss_fn))
apply_updates = jax.jit(optax.apply_updates, donate_argnums=0)
mask_by_hand = jax.jit(lambda p: {**p, 'kernel': jnp.where(MASKS['kernel'], p['kernel'], 0)})


def init_params(dtype=jnp.float32):
  kernel = jnp.cos(jnp.arange(24.0)).reshape(4, 6)
  return {'kernel': kernel.astype(dtype), 'bias': jnp.linspace(-0.5, 0.5, 6).astype(dtype)}


def owned(leaf):
  """A copy, as some states hold the params themselves; and not weakly typed, as lbfgs's is."""
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    return jnp.copy(leaf)
  return jnp.array(np.array(leaf))


def trajectory(tx, params, grad_dtype=None, by_hand=False, per_example=False):
  """The params after each step, on the host, and how often the update was traced."""
  tx = optax.with_extra_args_support(tx)
  traces = []

  # States that come back with another dtype can't take the donated memory, and jax warns.
  donated = 1 if grad_dtype is None else ()

  @functools.partial(jax.jit, donate_argnums=donated)
  def update(grads, state, params, value):
    traces.append(None)
    extra = {'value': value, 'grad': grads, 'value_fn': loss_fn, 'obj_fn': loss_fn}
    return tx.update(grads, state, params, **extra)

  state = jax.tree.map(owned, tx.init(params))
  out = []
  for _ in range(STEPS):
    value, grads = value_and_grad(params)
    if grad_dtype is not None:
      grads = optax.tree.cast(grads, grad_dtype)
    if per_example:
      grads = jax.tree.map(lambda g: jnp.stack([g, 2 * g]), grads)
    updates, state = update(grads, state, params, value)
    params = apply_updates(params, updates)
    if by_hand:
      params = mask_by_hand(params)
    out.append(jax.tree.map(np.asarray, params))
  return out, len(traces)


def check(kept, dense, params=None, masked_start=False, **options):
  """Runs both from equal params; compares every step, bit for bit."""
  params = init_params() if params is None else params
  params = mask_by_hand(params) if masked_start else params
  copies = [jax.tree.map(jnp.copy, params) for _ in range(2)]
  got, traces = trajectory(kept, copies[0], **options)
  expected, expected_traces = trajectory(dense, copies[1], by_hand=True, **options)
  pruned = ~np.asarray(MASKS['kernel'])
  for step, want in zip(got, expected, strict=True):
    assert not np.signbit(step['kernel'][pruned].astype(np.float32)).any()
    assert (step['kernel'][pruned] == 0).all()
    for name in want:
      assert step[name].dtype == params[name].dtype
      np.testing.assert_array_equal(step[name], want[name])
  start = np.asarray(params['kernel'])[~pruned]
  assert (got[-1]['kernel'][~pruned] != start).any(), 'nothing was trained'
  assert traces == expected_traces
  # With other grads than params, some optimizers themselves come back with other state dtypes.
  assert traces == 1 or 'grad_dtype' in options
  assert not MASKS['kernel'].is_deleted()


def test_the_list_holds_what_one_expects():
  expected = {
      'adabelief', 'adadelta', 'adafactor', 'adagrad', 'adam', 'adamax', 'adamaxw', 'adamw',
      'adan', 'amsgrad', 'fromage', 'lamb', 'lars', 'lbfgs', 'lion', 'nadam', 'nadamw',
      'noisy_sgd', 'novograd', 'polyak_sgd', 'radam', 'rmsprop', 'rprop',
      'sgd', 'sign_sgd', 'sm3', 'yogi',
      'acprop', 'ademamix', 'adopt', 'cocob', 'dadapt_adamw', 'dog', 'dowg', 'dpsgd',
      'momo', 'momo_adam', 'muon', 'prodigy', 'schedule_free', 'schedule_free_adamw',
      'schedule_free_sgd', 'simplified_ademamix', 'sophia',
  }  # fmt: skip
  assert expected <= set(OPTIMIZERS)


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_every_optimizer(name):
  check(optax.chain(make(name), keep_pruned(MASKS)), make(name), per_example=name == 'dpsgd')


@pytest.mark.parametrize('name', ['sgd', 'adamw', 'lamb', 'lion', 'adafactor', 'muon'])
def test_bfloat16_params(name):
  check(optax.chain(make(name), keep_pruned(MASKS)), make(name), init_params(jnp.bfloat16))


@pytest.mark.parametrize('name', ['sgd', 'adamw', 'lion'])
@pytest.mark.parametrize(
  ('dtype', 'grad_dtype'),
  [
    (jnp.bfloat16, jnp.float32),
    (jnp.float32, jnp.bfloat16),
    (jnp.float32, jnp.float16),
    (jnp.float16, jnp.bfloat16),
  ],
)
def test_updates_of_another_dtype_than_the_params(name, dtype, grad_dtype):
  kept = optax.chain(make(name), keep_pruned(MASKS))
  check(kept, make(name), init_params(dtype), grad_dtype=grad_dtype)


def test_packed_masks():
  check(optax.chain(optax.adamw(0.05), keep_pruned(pack(MASKS))), optax.adamw(0.05))


decayed = optax.cosine_decay_schedule(0.1, STEPS)
BEHIND = {
    'weight decay': lambda: optax.adamw(0.05, weight_decay=0.1),
    'momentum': lambda: optax.sgd(0.05, momentum=0.9, nesterov=True),
    'schedule': lambda: optax.adam(decayed),
    'clip_by_global_norm': lambda: optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.05)),
    'adaptive_grad_clip': lambda: optax.chain(optax.adaptive_grad_clip(0.1), optax.sgd(0.05)),
    'noise': lambda: optax.chain(optax.sgd(0.05), optax.add_noise(0.1, 0.5, key=0)),
    'MultiSteps': lambda: optax.MultiSteps(optax.adamw(0.05), 3).gradient_transformation(),
    'inject_hyperparams': lambda: optax.inject_hyperparams(optax.adamw)(learning_rate=decayed),
    'apply_if_finite': lambda: optax.apply_if_finite(optax.adam(0.05), 3),
    'partition': lambda: optax.partition(
        {'a': optax.adamw(0.05), 'b': optax.sgd(0.01)}, {'kernel': 'a', 'bias': 'b'}
    ),
    'masked': lambda: optax.masked(optax.adamw(0.05), {'kernel': True, 'bias': False}),
    'reduce_on_plateau': lambda: optax.chain(
        optax.adam(0.05), optax.contrib.reduce_on_plateau(patience=2, cooldown=1)
    ),
    'mechanize': lambda: optax.contrib.mechanize(optax.adamw(0.05)),
    'sam': lambda: optax.GradientTransformation(  # it takes no extra args, whatever its type
        *optax.contrib.sam(optax.sgd(0.05), optax.sgd(0.01), sync_period=2)
    ),
    'flatten': lambda: optax.flatten(optax.adam(0.05)),
    'no line search': lambda: optax.lbfgs(0.05, linesearch=None),
    'ema': lambda: optax.chain(optax.sgd(0.05), optax.ema(0.9)),
}  # fmt: skip


@pytest.mark.parametrize('name', BEHIND)
def test_behind_every_wrapper(name):
  check(optax.chain(BEHIND[name](), keep_pruned(MASKS)), BEHIND[name]())


keep = lambda tx: optax.chain(tx, keep_pruned(MASKS))
INSIDE = {
    'MultiSteps': lambda wrap: optax.MultiSteps(
        wrap(optax.adamw(0.05)), 3
    ).gradient_transformation(),
    'MultiSteps that skips': lambda wrap: optax.MultiSteps(
        wrap(optax.adamw(0.05)), 2, should_skip_update_fn=optax.skip_not_finite
    ).gradient_transformation(),
    'inject_hyperparams': lambda wrap: optax.inject_hyperparams(
        lambda learning_rate: wrap(optax.adamw(learning_rate))
    )(decayed),
    'apply_if_finite': lambda wrap: optax.apply_if_finite(wrap(optax.adam(0.05)), 3),
    'partition': lambda wrap: optax.partition(
        {'a': wrap(optax.adamw(0.05)), 'b': optax.sgd(0.01)}, {'kernel': 'a', 'bias': 'b'}
    ),
    'masked': lambda wrap: optax.masked(
        wrap(optax.adamw(0.05)), {'kernel': True, 'bias': False}
    ),
    'named_chain': lambda wrap: optax.named_chain(('a', wrap(optax.adam(0.05)))),
}  # fmt: skip


@pytest.mark.parametrize('name', INSIDE)
def test_inside_every_wrapper(name):
  check(INSIDE[name](keep), INSIDE[name](lambda tx: tx), masked_start=True)


@pytest.mark.parametrize('name', ['sgd', 'adamw', 'schedule_free_adamw'])
def test_masked_gradients_and_kept_params_go_together(name):
  head = mask_updates(MASKS)
  kept = optax.chain(head, make(name), keep_pruned(MASKS))
  check(kept, optax.chain(mask_updates(MASKS), make(name)))


def test_what_schedule_free_evaluates_is_zero_too():
  tx = optax.chain(mask_updates(MASKS), optax.contrib.schedule_free_sgd(0.05), keep_pruned(MASKS))
  params = mask_by_hand(init_params())
  state = tx.init(params)
  for _ in range(5):
    updates, state = tx.update(value_and_grad(params)[1], state, params)
    params = optax.apply_updates(params, updates)
  evaluated = optax.contrib.schedule_free_eval_params(state[1], params)
  assert (evaluated['kernel'][~MASKS['kernel']] == 0).all()


def test_lookahead_keeps_both_its_params():
  masks = optax.LookaheadParams(fast=MASKS, slow=MASKS)
  tx = optax.chain(optax.lookahead(optax.adamw(0.05), 3, 0.5), keep_pruned(masks))
  params = optax.LookaheadParams.init_synced(init_params())
  state = tx.init(params)
  update = jax.jit(tx.update)
  for _ in range(7):
    updates, state = update(value_and_grad(params.fast)[1], state, params)
    params = optax.apply_updates(params, updates)
    assert (params.fast['kernel'][~MASKS['kernel']] == 0).all()
    assert (params.slow['kernel'][~MASKS['kernel']] == 0).all()


def test_gradients_of_nan_or_infinity_where_pruned():
  tx = optax.chain(optax.sgd(0.1, momentum=0.9), keep_pruned(MASKS))
  params = init_params()
  state = tx.init(params)
  bad = jnp.where(MASKS['kernel'], 1.0, jnp.array([jnp.nan, jnp.inf, -jnp.inf] * 2)[None])
  for _ in range(3):
    updates, state = tx.update({**params, 'kernel': bad}, state, params)
    params = optax.apply_updates(params, updates)
    assert (params['kernel'][~MASKS['kernel']] == 0).all()
    assert jnp.isfinite(params['kernel']).all()
