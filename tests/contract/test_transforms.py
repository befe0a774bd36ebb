"""What every transformation of masks that are given promises, through one table."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jprune.transforms
from jprune.masks import apply as apply_masks
from jprune.masks import pack

MASKS = {'layer': {'kernel': jnp.arange(64).reshape(8, 8) % 3 == 0, 'bias': None}}
PARAMS = {'layer': {'kernel': jnp.linspace(-1, 1, 64).reshape(8, 8), 'bias': jnp.ones(8)}}
GRADS = jax.tree.map(jnp.cos, PARAMS)

# name -> masks -> transformation
TABLE = {
  'keep_pruned': jprune.transforms.keep_pruned,
  'mask_updates': jprune.transforms.mask_updates,
}
each = pytest.mark.parametrize(('name', 'make'), TABLE.items(), ids=TABLE)
each_form = pytest.mark.parametrize('form', [lambda masks: masks, pack], ids=['bool', 'packed'])


def assert_equal(one, two):
  assert jax.tree.structure(one) == jax.tree.structure(two)
  jax.tree.map(np.testing.assert_array_equal, one, two)


def step(tx, params, state, grads):
  updates, state = tx.update(grads, state, params)
  return optax.apply_updates(params, updates), state


def test_the_table_is_complete():
  functions = {n: f for n, f in vars(jprune.transforms).items() if inspect.isfunction(f)}
  assert {n for n, f in functions.items() if [*inspect.signature(f).parameters] == ['masks']} == (
    set(TABLE)
  )


@each
def test_type_and_state(name, make):
  tx = make(MASKS)
  assert isinstance(tx, optax.GradientTransformationExtraArgs)
  state = tx.init(PARAMS)
  words = [word.capitalize() for word in name.split('_')]
  assert type(state).__name__ == ''.join(words) + 'State'
  assert type(state) is getattr(jprune.transforms, type(state).__name__)
  assert isinstance(state, tuple)


@each
@each_form
def test_optax_finds_the_masks(name, make, form):
  del name
  with jax.numpy_dtype_promotion('standard'):
    state = optax.chain(optax.adam(1e-3), make(form(MASKS))).init(PARAMS)
  assert_equal(optax.tree.get(state, 'masks'), form(MASKS))
  halved = jax.tree.map(jnp.zeros_like, form(MASKS))
  assert_equal(optax.tree.get(optax.tree.set(state, masks=halved), 'masks'), halved)


@each
@each_form
def test_pruned_weights_that_are_zero_stay_zero(name, make, form):
  del name
  tx = make(form(MASKS))
  params = apply_masks(PARAMS, MASKS)
  moved, _ = step(tx, params, tx.init(params), GRADS)
  assert_equal(moved, apply_masks(optax.apply_updates(params, GRADS), MASKS))


@each
@each_form
def test_extra_args_pass_and_the_second_call_does_not_retrace(name, make, form):
  del name
  tx, traces = make(form(MASKS)), []

  @jax.jit
  def update(grads, state, params, value):
    traces.append(None)
    return tx.update(grads, state, params, value=value, anything=None)

  state = tx.init(PARAMS)
  for _ in range(3):
    updates, state = update(GRADS, state, PARAMS, 1.0)
  assert len(traces) == 1
  assert_equal(updates, tx.update(GRADS, tx.init(PARAMS), PARAMS)[0])


@each
@each_form
def test_a_donated_state_leaves_the_caller_their_masks(name, make, form):
  del name
  masks = form(MASKS)
  tx = make(masks)
  update = jax.jit(tx.update, donate_argnums=1)
  state = tx.init(PARAMS)
  for _ in range(2):
    _, state = update(GRADS, state, PARAMS)
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(masks))
  jax.block_until_ready(tx.init(PARAMS))  # and a second run may start from them


@each
@each_form
def test_init_inside_jit(name, make, form):
  del name
  tx = make(form(MASKS))
  assert_equal(jax.jit(tx.init)(PARAMS), tx.init(PARAMS))
  assert_equal(jax.jit(lambda masks: make(masks).init(PARAMS))(form(MASKS)), tx.init(PARAMS))
  shapes = jax.eval_shape(tx.init, PARAMS)
  assert jax.tree.structure(shapes) == jax.tree.structure(tx.init(PARAMS))


@each
def test_numpy_masks(name, make):
  del name
  masks = {'layer': {'kernel': np.asarray(MASKS['layer']['kernel']), 'bias': None}}
  assert_equal(make(masks).init(PARAMS), make(MASKS).init(PARAMS))


@each
@each_form
def test_vmapped_over_an_ensemble(name, make, form):
  del name
  stack = lambda tree: jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf, 2 * leaf]), tree)
  masks = jax.tree.map(lambda m: jnp.stack([m, ~m, m]), MASKS)
  params, grads = stack(PARAMS), stack(GRADS)

  def train(masks, params, grads):
    tx = make(form(masks))
    state = tx.init(params)
    for _ in range(3):
      params, state = step(tx, params, state, grads)
    return params

  together = jax.jit(jax.vmap(train))(masks, params, grads)
  for index in range(3):
    alone = jax.jit(train)(*jax.tree.map(lambda leaf: leaf[index], (masks, params, grads)))  # noqa: B023
    assert_equal(jax.tree.map(lambda leaf: leaf[index], together), alone)  # noqa: B023


@each
@each_form
@pytest.mark.parametrize('kind', ['Auto', 'Explicit'])
@pytest.mark.parametrize('spec', [('d',), (None, 'd')], ids=['rows', 'columns'])
def test_sharded_params(name, make, form, kind, spec):
  del name
  axis_type = getattr(jax.sharding.AxisType, kind)
  mesh = jax.make_mesh((8,), ('d',), axis_types=(axis_type,))
  sharding = NamedSharding(mesh, PartitionSpec(*spec))
  put = lambda tree: {
    'layer': {
      'kernel': jax.device_put(tree['layer']['kernel'], sharding),
      'bias': jax.device_put(tree['layer']['bias'], NamedSharding(mesh, PartitionSpec())),
    }
  }
  params, grads = put(PARAMS), put(GRADS)
  given = {'layer': {'kernel': jax.device_put(MASKS['layer']['kernel'], sharding), 'bias': None}}
  for masks in (MASKS, given):
    tx = make(form(masks))
    state = tx.init(params)
    if form is not pack:
      assert state.masks['layer']['kernel'].sharding.is_equivalent_to(sharding, 2)
    run = jax.jit(functools.partial(step, tx))
    before = jax.tree.map(lambda leaf: leaf.sharding, state)
    moved, state = run(params, state, grads)
    assert moved['layer']['kernel'].sharding.is_equivalent_to(sharding, 2)
    same = jax.tree.map(lambda leaf, s: leaf.sharding.is_equivalent_to(s, 2), state, before)
    assert all(jax.tree.leaves(same))
    alone = make(form(MASKS))
    expected, _ = jax.jit(functools.partial(step, alone))(PARAMS, alone.init(PARAMS), GRADS)
    assert_equal(moved, expected)


@each
def test_where_optax_hides_leaves_and_subtrees(name, make):
  del name
  params = {'a': PARAMS, 'b': PARAMS}
  masks = {'a': MASKS, 'b': MASKS}
  tx = optax.masked(make(masks), {'a': True, 'b': False})
  updates, state = tx.update(params, tx.init(params), params)
  assert isinstance(state.inner_state.masks['b'], optax.MaskedNode)
  assert_equal(updates['b'], params['b'])
  alone = make(MASKS)
  assert_equal(updates['a'], alone.update(PARAMS, alone.init(PARAMS), PARAMS)[0])
  tx = optax.masked(make(masks), {'a': False, 'b': False})
  assert_equal(tx.update(params, tx.init(params), params)[0], params)


@each
def test_params_that_are_none(name, make):
  del name
  params, masks = {**PARAMS, 'rest': None}, {**MASKS, 'rest': None}
  tx = make(masks)
  updates, _ = tx.update({**GRADS, 'rest': None}, tx.init(params), params)
  assert updates['rest'] is None


@each
@each_form
def test_tree_map_params(name, make, form):
  del name
  with jax.numpy_dtype_promotion('standard'):
    tx = optax.chain(make(form(MASKS)), optax.sgd(0.1, momentum=0.9))
    state = tx.init(PARAMS)
    assert_equal(optax.tree_map_params(tx, jnp.copy, state), state)
    specs = jax.tree.map(lambda leaf: PartitionSpec(), PARAMS)
    ends = lambda leaf: leaf is None or isinstance(leaf, jprune.masks.PackedMask)
    mapped = optax.tree_map_params(tx, lambda _, spec: spec, state, specs, is_leaf=ends)
  assert_equal(optax.tree.get(mapped, 'masks'), specs)


@each
@pytest.mark.parametrize(
  ('masks', 'error', 'match'),
  [
    ({}, ValueError, '`masks` must be a tree with the structure of `params`; got no leaf'),
    ({'layer': {'kernel': MASKS['layer']['kernel']}}, ValueError, "no leaf 'layer/bias'"),
    ({'layer': {**MASKS['layer'], 'new': None}}, ValueError, "an unknown leaf 'layer/new'"),
    (
      {'layer': {'kernel': jnp.ones((8, 8)), 'bias': None}},
      TypeError,
      "`masks` must be of dtype bool; got float32 of shape .8, 8. at leaf 'layer/kernel'",
    ),
    (
      {'layer': {'kernel': jnp.ones((8, 4), bool), 'bias': None}},
      ValueError,
      r"`masks` must be of shape \(8, 8\); got bool of shape \(8, 4\) at leaf 'layer/ker",
    ),
    (
      {'layer': {'kernel': pack(jnp.ones((8, 9), bool)), 'bias': None}},
      ValueError,
      r'`masks` must be of shape \(8, 8\)',
    ),
    ({'layer': {'kernel': True, 'bias': None}}, TypeError, 'must be of dtype bool; got bool'),
  ],
)
def test_masks_for_other_params(name, make, masks, error, match):
  with pytest.raises(error, match=f'{name}: .*{match}'):
    make(masks).init(PARAMS)


@each
def test_masks_that_prune_integers(name, make):
  params = {'table': jnp.arange(3)}
  with pytest.raises(TypeError, match=f"{name}: `masks` must be floating .* at leaf 'table'"):
    make({'table': jnp.array([True, False, True])}).init(params)
  make({'table': None}).init(params)


@each
def test_no_params_at_all(name, make):
  with pytest.raises(ValueError, match=f'{name}: `params` must be a tree with at least one leaf'):
    make({}).init({})


@each
def test_updates_of_other_params(name, make):
  tx = make(MASKS)
  state = tx.init(PARAMS)
  match = f"{name}: `updates` must be a tree with the structure .* no leaf 'layer/bias'"
  with pytest.raises(ValueError, match=match):
    tx.update({'layer': {'kernel': GRADS['layer']['kernel']}}, state, PARAMS)
