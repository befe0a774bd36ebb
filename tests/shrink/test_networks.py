"""A plan slices what mirrors the params of the network that was shrunk, and no other network."""

import dataclasses
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jprune
from jprune._shrink import Plan

SHAPES = {'up/bias': (8,), 'up/kernel': (3, 8), 'down/kernel': (8, 2)}
KEEP = (0, 3, 4, 7)
PLAN = Plan(SHAPES, {'up/bias': {0: KEEP}, 'up/kernel': {1: KEEP}, 'down/kernel': {0: KEEP}})
VARIABLES = Plan(
  {f'params/{path}': shape for path, shape in SHAPES.items()},
  {f'params/{path}': kept for path, kept in PLAN.kept.items()},
)


def net(seed=0):
  out: dict[str, Any] = {'up': {}, 'down': {}}
  for path, shape in SHAPES.items():
    layer, name = path.split('/')
    out[layer][name] = jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)
  return out


def mask():
  return jax.tree.map(lambda leaf: leaf > 0, net())


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
  params: Any
  ema_params: Any
  opt_state: Any
  opt_state_of_disc: Any = None


class TrainStateTuple(NamedTuple):
  params: Any
  disc: Any


class MomentsState(NamedTuple):
  """Of an optimizer that isn't optax's."""

  exp_avg: Any
  whatever: Any


adam = optax.chain(optax.clip(1.0), optax.adam(0.1))
held = optax.chain(optax.adam(0.1), jprune.keep_pruned(mask()))
labelled = optax.chain(
  optax.multi_transform(
    {'fast': optax.adam(0.1), 'other': optax.sgd(0.1, momentum=0.9)},
    {'up': 'other', 'down': 'fast'},
  ),
  jprune.keep_pruned(mask()),
)
two = {'gen': net(), 'disc': net(1)}

ONE = {
  'alone': {'gen': net()},
  'copies': {'params': net(), 'ema': net(1), 'best_params': net(2), 'masks': mask()},
  'named copies': {'gen': net(), 'gen_ema': net(1), 'opt_gen': adam.init(net())},
  'camel case': {'model': net(), 'emaModel': net(1)},
  'a network and states': {'gen': net(), 'opt_state': held.init(net())},
  'masks beside it': {'gen': net(), 'kept': mask(), 'packed': jprune.masks.pack(mask())},
  'train state': TrainState(net(), net(1), held.init(net())),
  'pair': (net(), held.init(net())),
  'labels': {'params': net(), 'tx': labelled.init(net())},
  'multi steps': (net(), optax.MultiSteps(adam, 2).init(net())),
  'averaging': (
    net(),
    optax.lookahead(optax.sgd(0.1), 2, 0.5).init(optax.LookaheadParams.init_synced(net())),
  ),
  'another optimizer': (net(), MomentsState(net(), net())),
}


@pytest.mark.parametrize('plan', [PLAN, VARIABLES], ids=['params', 'variables'])
@pytest.mark.parametrize('name', ONE)
def test_copies_of_one_network_are_all_sliced(name, plan):
  small = plan.slice(ONE[name])
  sizes = {
    leaf.shape for leaf in jax.tree.leaves(small) if np.ndim(leaf) and leaf.dtype != np.uint8
  }
  assert sizes == {(4,), (3, 4), (4, 2)}
  back = plan.expand(small)
  assert jax.tree.map(jnp.shape, back) == jax.tree.map(jnp.shape, ONE[name])


TWO = {
  'gan': (two, 'disc/', 'gen/'),
  'teacher': ({'params': net(), 'teacher': net(1)}, 'params/', 'teacher/'),
  'average of a teacher': ({'student': net(), 'ema_teacher': net(1)}, 'ema_teacher/', 'student/'),
  'list': ([net(), net(1)], '0/', '1/'),
  'one optimizer': ((net(), adam.init(two)), '1/1/0/mu/disc/', '1/1/0/mu/gen/'),
  'two optimizers': (
    {'gen_opt': adam.init(net()), 'disc_opt': adam.init(net())},
    'disc_opt/1/0/mu/',
    'gen_opt/1/0/mu/',
  ),
  'train state': (
    TrainState(net(), net(1), adam.init({'gen': net()}), adam.init({'disc': net()})),
    'opt_state/1/0/mu/gen/',
    'opt_state_of_disc/1/0/mu/disc/',
  ),
  'named tuple': (TrainStateTuple(net(), net(1)), 'params/', 'disc/'),
  'variables': ({'a': {'params': net()}, 'b': {'params': net()}}, 'a/params', 'b/params'),
  'one layer of it': ({'net': net(), 'head': {'up': net()['up']}}, 'head/up', 'net/up'),
  'flat keys': (
    {f'{who}/{path}': jnp.ones(shape) for who in ('gen', 'disc') for path, shape in SHAPES.items()},
    'disc/',
    'gen/',
  ),
}


@pytest.mark.parametrize('plan', [PLAN, VARIABLES], ids=['params', 'variables'])
@pytest.mark.parametrize('name', TWO)
def test_a_second_network_is_refused_by_name(name, plan):
  tree, one, other = TWO[name]
  message = (
    rf'^plan\.slice: `other` must be a tree of one network, its copies and its states; got leaves '
    rf"'{re.escape(one)}.*' and '{re.escape(other)}.*', which both fit the param '.*'\. Slice what"
  )
  with pytest.raises(ValueError, match=message):
    plan.slice(tree)


def test_where_says_which_one_it_is():
  cut = PLAN.slice(two, where='^gen/')
  assert cut['gen']['up']['kernel'].shape == (3, 4)
  assert cut['disc'] == two['disc'] or all(
    a is b for a, b in zip(jax.tree.leaves(cut['disc']), jax.tree.leaves(two['disc']))
  )
  again = PLAN.slice([net(), net(1)], where=lambda path, leaf: path.startswith('0/'))
  assert [each['down']['kernel'].shape for each in again] == [(4, 2), (8, 2)]
  both = PLAN.slice(two, where=re.compile('gen|disc'))
  assert both['disc']['up']['bias'].shape == (4,)
  assert PLAN.expand(cut, where='^gen/')['gen']['up']['bias'].shape == (8,)


@pytest.mark.parametrize(
  ('where', 'error', 'message'),
  [
    ('(', ValueError, 'where` must be a regular expression; got'),
    (
      '^teacher/',
      ValueError,
      "where` must be a filter that selects a leaf; got '^teacher/', which",
    ),
    (
      3,
      TypeError,
      'where` must be a regular expression, or a predicate (path, leaf) -> bool; got 3',
    ),
    (lambda path, leaf: 'gen', TypeError, 'where'),
  ],
)
def test_where_of_another_form(where, error, message):
  with pytest.raises(error, match=rf'^plan\.slice: `{re.escape(message)}'):
    PLAN.slice(two, where=where)


def test_states_of_nnx_are_those_of_one_model():
  class Model(nnx.Module):
    def __init__(self, rngs):
      self.up = nnx.Linear(3, 8, rngs=rngs)
      self.down = nnx.Linear(8, 2, use_bias=False, rngs=rngs)

  model = Model(nnx.Rngs(0))
  optimizer = nnx.Optimizer(model, held, wrt=nnx.Param)
  state = {'model': nnx.state(model, nnx.Param), 'optimizer': nnx.state(optimizer)}
  assert PLAN.slice(state)['optimizer']['opt_state'][0][0]['mu']['up']['kernel'][...].shape == (
    3,
    4,
  )
  pair = nnx.state((model, Model(nnx.Rngs(1))), nnx.Param)
  with pytest.raises(ValueError, match='of one network'):
    PLAN.slice(pair)


FLAT = optax.flatten(optax.adam(0.1))


@pytest.mark.parametrize(
  'state',
  [
    FLAT.init(net()),
    optax.chain(FLAT, jprune.keep_pruned(mask())).init(net()),
    {'params': net(), 'opt_state': optax.MultiSteps(FLAT, 2).init(net())},
  ],
  ids=['alone', 'beside masks', 'beside params'],
)
@pytest.mark.parametrize('plan', [PLAN, VARIABLES], ids=['params', 'variables'])
def test_one_long_vector_is_refused(state, plan):
  several = Plan({**plan.shapes, 'batch_stats/up/mean': (8,)}, plan.kept)
  for each in (plan, several) if plan is VARIABLES else (plan,):
    with pytest.raises(ValueError, match=r'^plan\.slice: .*(vector of 48 entries|leaves end in)'):
      each.slice(state)


def test_one_long_vector_of_a_bare_array():
  plan = Plan({'': (3, 8)}, {'': {1: KEEP}})
  with pytest.raises(ValueError, match=r'vector of 24 entries, as many as the params have'):
    plan.slice(FLAT.init(jnp.ones((3, 8))))
  assert plan.slice((jnp.ones((3, 8)), jnp.ones(7)))[1].shape == (7,)
  with pytest.raises(ValueError, match='of one network'):
    plan.slice({'gen': jnp.ones((3, 8)), 'disc': jnp.ones((3, 8))})
