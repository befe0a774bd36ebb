"""Bad input gets one clear error; odd input that is no error works."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jprune
from jprune._shrink import Plan
from tests.shrink import _masks
from tests.shrink._simple import KEEP, X, make_masks, make_params, make_small, net

# ---------------------------------------------------------------------------------------- masks


def test_masks_that_prune_a_unit_in_some_members_only():
  masks = make_masks()
  masks['out'][1] = True
  message = (
    r'^shrink: `masks` must prune a unit in all members of its group or in none; unit 1 of group '
    r"'in\[1\]' is pruned at leaf '(bias|in)' but not at leaf 'out'\. Make masks with "
    r'jprune\.masks\.channels and the graph of this very function, or pass strict=False to keep '
    r'such units\.$'
  )
  with pytest.raises(ValueError, match=message):
    jprune.shrink(net, make_params(), masks, X)
  masks['out'][5] = True
  with pytest.raises(ValueError, match=r'\(and 1 more such units\)'):
    jprune.shrink(net, make_params(), masks, X)
  with pytest.raises(ValueError, match=r"^verify: .* group 'in\[1\]'"):
    jprune.graph.verify(net, make_params(), masks, X)


def test_units_that_are_pruned_in_part_stay_if_not_strict():
  params, masks = make_params(), make_masks()
  masks['out'][1] = True
  masks['bias'] = None
  pair = _masks.pair(net, params, masks, X, strict=False)
  assert pair.small.params['in'].shape == (3, 8)
  masks['bias'] = KEEP.copy()
  masks['bias'][1] = True
  pair = _masks.pair(net, params, masks, X, strict=False)
  assert pair.small.plan.kept['in'] == {1: (0, 1, 2, 4, 6)}
  assert pair.small.plan.partly == {'in[1]': 1}
  assert 'Not shrunk: 1 unit of 1 group, pruned in some of their members only.' in str(
    pair.small.plan
  )
  _masks.assert_same(*_masks.outputs(pair, X), tolerance=1e-6)


@pytest.mark.parametrize(
  ('masks', 'error', 'message'),
  [
    ({'in': KEEP}, ValueError, "`masks`.*'(bias|out)'"),
    ({**make_masks(), 'more': KEEP}, ValueError, "`masks`.*'more'"),
    ({**make_masks(), 'in': KEEP}, ValueError, r"`masks`.*\(3, 8\).*at leaf 'in'"),
    ({**make_masks(), 'in': np.ones((3, 8))}, TypeError, r"`masks`.*bool.*at leaf 'in'"),
    ({**make_masks(), 'in': 'all'}, TypeError, r"`masks`.*bool.*at leaf 'in'"),
    (True, (TypeError, ValueError), '`masks`'),
  ],
  ids=['missing', 'extra', 'shape', 'dtype', 'text', 'bool'],
)
def test_masks_of_another_form(masks, error, message):
  with pytest.raises(error, match=f'^shrink: {message}'):
    jprune.shrink(net, make_params(), masks, X)


def test_masks_without_values():
  message = r"^shrink: `masks` must be arrays with values at hand; got .* at leaf '(bias|in)'"
  with pytest.raises(TypeError, match=message):
    jax.jit(lambda masks: jprune.shrink(net, make_params(), masks, X).params)(make_masks())
  structs = jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype), make_masks())
  with pytest.raises(TypeError, match=message):
    jprune.shrink(net, make_params(), structs, X)


# ------------------------------------------------------------------------------------ functions


@pytest.mark.parametrize('call', ['channels', 'shrink', 'verify'])
@pytest.mark.parametrize(
  ('fn', 'message'),
  [
    ('relu', '`fn` must be a function of the params and further arguments; got str'),
    (None, '`fn` must be a function of the params and further arguments; got NoneType'),
    (lambda params, x: 'text', '`fn` must be .* returns arrays; got TypeError'),
    (lambda params: params, '`fn` must be .* returns arrays; got TypeError'),
    (lambda params, x: x @ params['in'] @ params['in'], '`fn` must be .*; got TypeError'),
    (lambda params, x: params['none'], "`fn` must be .*; got KeyError: 'none'"),
    (lambda params, x: bool(x.sum()) and x, '`fn` must be .*; got TracerBoolConversionError'),
  ],
  ids=['str', 'none', 'text', 'arity', 'shapes', 'key', 'branch'],
)
def test_functions_that_can_not_be_traced(call, fn, message):
  with pytest.raises(TypeError, match=f'^{call}: {message}'):
    run(call, fn, make_params(), make_masks(), X)


def run(call, fn, params, masks, *args):
  if call == 'channels':
    return jprune.graph.channels(fn, params, *args)
  return (jprune.shrink if call == 'shrink' else jprune.graph.verify)(fn, params, masks, *args)


@pytest.mark.parametrize('call', ['channels', 'shrink', 'verify'])
def test_arguments_that_are_no_arrays(call):
  with pytest.raises(TypeError, match=f'^{call}: `fn` must be'):
    run(call, net, make_params(), make_masks(), 'text')
  with pytest.raises(TypeError, match=f'^{call}: `fn` must be'):
    run(call, net, make_params(), make_masks(), {'x': X})


@pytest.mark.parametrize('call', ['channels', 'shrink', 'verify'])
@pytest.mark.parametrize('params', [{}, None, []])
def test_params_without_leaves(call, params):
  with pytest.raises(ValueError, match=f'^{call}: `params`'):
    run(call, lambda params, x: x, params, params, X)


@pytest.mark.parametrize('call', ['channels', 'macs', 'shrink', 'verify', 'small.fn'])
def test_keywords_are_to_be_bound(call):
  def fn(params, x, train=False):
    return net(params, x)

  params, masks = make_params(), make_masks()
  small = make_small()
  calls = {
    'channels': lambda: jprune.graph.channels(fn, params, X, train=True),
    'macs': lambda: jprune.graph.macs(fn, params, X, train=True),
    'shrink': lambda: jprune.shrink(fn, params, masks, X, train=True),
    'verify': lambda: jprune.graph.verify(fn, params, masks, X, train=True),
    'small.fn': lambda: small.fn(small.params, X, train=True),
  }
  message = (
    f"^{call}: `args` must be positional; got the keyword 'train'. Bind it: "
    r'functools.partial\(fn, train=...\).$'
  )
  with pytest.raises(TypeError, match=message):
    calls[call]()


@pytest.mark.parametrize('call', ['channels', 'shrink', 'verify'])
def test_leaves_that_share_a_path(call):
  params = {'a/b': np.ones((3, 8), np.float32), 'a': {'b': np.ones((8, 2), np.float32)}}
  fn = lambda params, x: jnp.tanh(x @ params['a/b']) @ params['a']['b']
  message = f"^{call}: `params` must be a tree with one leaf for each path; got .*'a/b'.*Rename"
  with pytest.raises(ValueError, match=message):
    run(call, fn, params, jax.tree.map(lambda x: None, params), X)


@pytest.mark.parametrize('call', ['shrink', 'verify'])
def test_no_masks_at_all(call):
  message = f'^{call}: `masks` must be a tree of the structure of the params; got None. Make masks'
  with pytest.raises(TypeError, match=message):
    run(call, net, make_params(), None, X)
  small = jprune.shrink(lambda w, x: jnp.tanh(x @ w).sum(-1), np.ones((3, 8), np.float32), None, X)
  assert small.params.shape == (3, 8)  # of a bare array, None is the mask of its only leaf


def test_params_to_verify_need_values():
  message = r"^verify: `params` must be arrays; got the shape of float32 .* at leaf 'bias'. Pass"
  with pytest.raises(TypeError, match=message):
    jprune.graph.verify(net, jax.eval_shape(make_params), make_masks(), X)


def test_structs_to_verify_need_a_key():
  struct = jax.ShapeDtypeStruct((2, 3), jnp.float32)
  args = net, make_params(), make_masks(), struct
  with pytest.raises(TypeError, match='^verify: .*key'):
    jprune.graph.verify(*args)
  assert jprune.graph.verify(*args, key=jax.random.key(0)).relative < 1e-5
  for struct in (jax.ShapeDtypeStruct((2, 3), jnp.int32), jax.eval_shape(jax.random.key, 0)):
    message = '^verify: `args` must be arrays, or shapes of floating ones, .*for example token ids'
    with pytest.raises(TypeError, match=message):
      jprune.graph.verify(*args[:3], struct, key=jax.random.key(0))


# --------------------------------------------------------------------------- the small function


def test_small_function_with_other_params():
  small = make_small()
  less = {name: leaf for name, leaf in small.params.items() if name != 'bias'}
  with pytest.raises(ValueError, match=r"^small\.fn: `params` must be a tree .* without 'bias'"):
    small.fn(less, X)
  message = r"^small\.fn: `params` must be a tree with the leaves of small\.params; got .*'more'"
  with pytest.raises(ValueError, match=message):
    small.fn({**small.params, 'more': X}, X)
  message = r"^small\.fn: `params` must be of shape \(.*\); got .* at leaf '(bias|in|out)'"
  with pytest.raises(ValueError, match=message):
    small.fn(make_params(), X)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(small.fn, make_params(), X)


def test_small_function_with_other_arguments():
  small = make_small()
  with pytest.raises(TypeError, match=r'^small\.fn: `fn` must be a function that takes these'):
    small.fn(small.params, np.ones((4, 7), np.float32))
  with pytest.raises(TypeError, match=r'^small\.fn: `fn` must be'):
    small.fn(small.params)


def test_inputs_for_which_the_channels_can_not_go():
  def fn(params, x):
    y = x @ params['in']
    if x.shape[0] == 5:
      y = jnp.sort(y, -1)
    return y @ params['out']

  params, masks = make_params(), make_masks()
  del params['bias'], masks['bias']
  small = jprune.shrink(fn, params, masks, X)
  message = (
    r"^small\.fn: `args` must be such that axis \d of leaf '(in|out)' may lose channels; got "
    r'inputs for which it is not: sorted along it \(test_errors\.py:\d+\)\. Shrink for such inputs'
  )
  with pytest.raises(ValueError, match=message):
    small.fn(small.params, np.ones((5, 3), np.float32))


# ----------------------------------------------------------------------------------------- plan


@pytest.mark.parametrize('data', [{}, {'format': 2}, {'format': None}, [], 'text', None])
def test_a_plan_from_something_else(data):
  with pytest.raises(ValueError, match=r'^Plan\.from_dict: `data` must be what plan\.to_dict'):
    Plan.from_dict(data)


@pytest.mark.parametrize(
  ('change', 'got'),
  [
    ({'shapes': None}, "something else under 'shapes'"),
    ({'shapes': {'in': 'ab'}}, "something else under 'shapes'"),
    ({'kept': [1]}, "something else under 'kept'"),
    ({'kept': {'in': {'1': [2, 0]}}}, "something else under 'kept'"),
    ({'kept': {'in': {'1': [0, 8]}}}, "something else under 'kept'"),
    ({'kept': {'in': {'2': [0]}}}, "something else under 'kept'"),
    ({'kept': {'no': {'0': [0]}}}, "something else under 'kept'"),
    ({'groups': [['a', 1]]}, "something else under 'groups'"),
    ({'groups': [[5, 4, 2]]}, "something else under 'groups'"),
    ({'frozen': {'in': 1}}, "something else under 'frozen'"),
    ({'frozen': [['in', 0, 7]]}, "something else under 'frozen'"),
    ({'partly': 3}, "something else under 'partly'"),
    ({'zeros': '3'}, "something else under 'zeros'"),
  ],
)
def test_a_plan_from_damaged_data(change, got):
  data = make_small().plan.to_dict()
  message = f'^Plan.from_dict: `data` must be what plan.to_dict returns; got {got}.$'
  with pytest.raises(ValueError, match=message):
    Plan.from_dict({**data, **change})


@pytest.mark.parametrize('entry', ['shapes', 'kept', 'groups', 'frozen'])
def test_a_plan_from_data_that_lacks_an_entry(entry):
  data = make_small().plan.to_dict()
  del data[entry]
  with pytest.raises(ValueError, match=f"^Plan.from_dict: .* got none under '{entry}'.$"):
    Plan.from_dict(data)


def test_plans_and_graphs_are_read_only():
  small = make_small()
  plan, graph = small.plan, jprune.graph.channels(net, make_params(), X)
  held = (plan.shapes, plan.kept, plan.kept['in'], plan.frozen, plan.partly, graph.frozen)
  for each in (*held, graph.leaves, graph.unsupported):
    before = dict(each)
    changes = [
      lambda d: d.__setitem__('in', (1,)),
      lambda d: d.__delitem__('in'),
      lambda d: d.update({'in': (1,)}),
      lambda d: d.setdefault('new', 1),
      lambda d: d.pop('in'),
      lambda d: d.popitem(),
      lambda d: d.clear(),
      lambda d: d.__ior__({'in': 1}),
    ]
    for change in changes:
      with pytest.raises(TypeError, match=r'is read-only\. Change a copy: dict'):
        change(each)
    assert each == before


def test_leaves_with_the_path_of_a_param_and_another_shape():
  plan = make_small().plan
  message = r"^plan\.slice: `other` must be of shape \(3, 8\), as the param 'in' .*at leaf 'mu/in'"
  with pytest.raises(ValueError, match=message):
    plan.slice({'mu': {'in': np.ones((3, 9))}})
  with pytest.raises(ValueError, match=r"^plan\.expand: `other` must be of shape \(4,\).*'bias'"):
    plan.expand(make_params())


def test_leaves_that_may_belong_to_several_params():
  fn = lambda p, x: jnp.tanh(jnp.tanh(x @ p['a']['w']) @ p['b']['w']) @ p['c']['w']
  params = {name: {'w': np.ones((8, 8), np.float32)} for name in 'abc'}
  x = np.ones((2, 8), np.float32)
  graph = jprune.graph.channels(fn, params, x)
  kept = [KEEP, np.roll(KEEP, 1)]
  plan = jprune.shrink(fn, params, _masks.masks_of(graph, kept), x).plan
  with pytest.raises(ValueError, match=r"^plan\.slice: `other` must be .* fits .* at leaf 'w'"):
    plan.slice({'w': np.ones((8, 8))})
  factored = optax.adafactor(1e-3, min_dim_size_to_factor=4)
  with pytest.raises(ValueError, match=r"^plan\.slice: .* at leaf '0/v_row/(a|b|c)/w'"):
    plan.slice(factored.init(jax.tree.map(jnp.asarray, params)))
