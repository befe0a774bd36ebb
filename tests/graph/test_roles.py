"""Roles of leaves: what the trace says, and that one matrix gets one mask in whatever layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

import jprune
from jprune.graph import roles

W = jnp.ones((6, 8))


def axes(fn, leaf, *args):
  """Kind and axes of a function's only leaf."""
  role = roles(fn, {'w': jax.ShapeDtypeStruct(leaf, jnp.float32)}, *args)['w']
  return role.kind, role.axes


X = jnp.ones((5, 6))
INPUTS_OUTPUTS = ('kernel', ('inputs', 'outputs'))

# what may happen to a kernel on the way to its product
CHANGES = {
  'plain': lambda w: w,
  'cast': lambda w: w.astype(jnp.bfloat16).astype(jnp.float32),
  'masked': lambda w: jnp.where(w > 0, w, 0),
  'centred': lambda w: (w - w.mean(0, keepdims=True)) / w.std(0, keepdims=True),
  'normalised': lambda w: w / jnp.linalg.norm(w, axis=0, keepdims=True),
  'fake quantised': lambda w: jnp.round(w / jnp.abs(w).max()) * jnp.abs(w).max(),
  'turned twice': lambda w: w.T.T[::-1],
  'permuted': lambda w: w[np.array([3, 1, 0, 2, 5, 4])],
  'rolled': lambda w: jnp.roll(w, 2, axis=0),
  'in slices': lambda w: jnp.concatenate([w[:, 4:], w[:, :4]], 1),
  'stacked again': lambda w: jnp.stack(list(w)),
  'stopped': jax.lax.stop_gradient,
  'checkpointed': jax.checkpoint(lambda w: jnp.tanh(w)),
  'under jit': jax.jit(lambda w: 2 * w),
}


@pytest.mark.parametrize('change', CHANGES)
def test_a_kernel_is_followed_through_what_changes_it(change):
  assert axes(lambda p, x: x @ CHANGES[change](p['w']), (6, 8), X) == INPUTS_OUTPUTS


def test_products_of_every_form():
  image, many = jnp.ones((2, 9, 9, 6)), jnp.ones((3, 5, 6))
  conv = lambda groups: (
    lambda p, x: jax.lax.conv_general_dilated(
      x,
      p['w'],
      (1, 1),
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=groups,
    )
  )
  of = lambda fn, shape, *args: axes(fn, shape, *args)[1]
  assert of(lambda p, x: x @ p['w'].T, (8, 6), X) == ('outputs', 'inputs')
  assert of(conv(1), (3, 3, 6, 4), image) == ('window', 'window', 'inputs', 'outputs')
  assert of(conv(6), (3, 3, 1, 6), image) == ('window', 'window', '', 'outputs')
  assert of(lambda p, x: jax.vmap(jnp.dot)(x, p['w']), (3, 6, 4), many) == (
    'batch',
    'inputs',
    'outputs',
  )
  assert of(lambda p, x: jnp.einsum('nd,dhk->nhk', x, p['w']), (6, 2, 4), X) == (
    'inputs',
    'outputs',
    'outputs',
  )
  loop = lambda p, x: jax.lax.scan(lambda x, w: (x @ w, None), x, p['w'])[0]
  assert of(loop, (3, 6, 6), X) == ('layers', 'inputs', 'outputs')
  counted = lambda p, x: jax.lax.fori_loop(0, 3, lambda i, x: x @ p['w'][i], x)
  assert of(counted, (3, 6, 6), X) == ('layers', 'inputs', 'outputs')
  unrolled = lambda p, x: x @ p['w'][0] @ p['w'][1]
  assert of(unrolled, (2, 6, 6), X) == ('layers', 'inputs', 'outputs')
  chosen = lambda p, x, i: jnp.einsum('nd,nde->ne', x, p['w'][i])
  assert of(chosen, (4, 6, 3), X, jnp.zeros(5, int)) == ('experts', 'inputs', 'outputs')
  ragged = lambda p, x, sizes: jax.lax.ragged_dot(x, p['w'], sizes)
  assert of(ragged, (2, 6, 3), X, jnp.array([2, 3])) == ('experts', 'inputs', 'outputs')
  assert of(lambda p, x: x @ p['w'].reshape(6, 4), (24,), X) == ('inputsxoutputs',)


def test_heads_are_what_activations_multiply_each_other_along():
  x = jnp.ones((1, 5, 8))
  net = nn.MultiHeadDotProductAttention(2, qkv_features=16)
  params = jax.eval_shape(lambda: net.init(jax.random.key(0), x, x)['params'])
  found = roles(lambda p, x: net.apply({'params': p}, x, x), params, x)
  for name in ('query', 'key', 'value'):
    assert found[f'{name}/kernel'].axes == ('inputs', 'heads', 'outputs')
    assert found[f'{name}/bias'].kind == 'vector'
  out = found['out/kernel']
  assert out.axes == ('heads', 'inputs', 'outputs')
  assert (out.fan_in, out.fan_out, out.stack) == (16, 8, 1)


def test_what_is_no_kernel():
  def fn(p, ids, x):
    table = p['table'][ids] + p['relative'][np.array([0, 1, 2])]
    x = jnp.concatenate([p['cls'], x]) + p['position']
    mean = x.mean(0, keepdims=True)
    x = (x - mean) / jax.lax.stop_gradient(p['running']) * p['scale'][None] + p['shift']
    return table.sum() + x, {'average': 0.9 * p['average'] + 0.1 * mean[0]}

  shapes = {'table': (9, 4), 'relative': (5, 4), 'cls': (1, 4), 'position': (3, 4)}
  shapes |= {'running': (1, 4), 'scale': (4,), 'shift': (3, 4), 'average': (4,), 'rest': (4, 4)}
  params = {name: jnp.ones(shape) for name, shape in shapes.items()}
  found = roles(fn, params, jnp.arange(3), jnp.ones((2, 4)))
  kinds = {path: role.kind for path, role in found.items()}
  assert kinds == {
    'table': 'table',
    'relative': 'table',
    'cls': 'vector',
    'position': 'vector',
    'running': 'state',
    'average': 'state',
    'scale': 'vector',
    'shift': 'vector',
    'rest': 'unused',
  }


def test_what_scales_a_kernel_is_a_vector_and_both_of_low_rank_are_kernels():
  def fn(p, x):
    direction = p['v'] / jnp.linalg.norm(p['v'], axis=0, keepdims=True)
    x = x @ (p['g'][None] * direction)
    return x @ (p['full'] + p['left'] @ p['right'])

  shapes = {'v': (6, 8), 'g': (8,), 'full': (8, 7), 'left': (8, 2), 'right': (2, 7)}
  found = roles(fn, {name: jnp.ones(shape) for name, shape in shapes.items()}, X)
  assert found['g'].kind == 'vector'
  assert {path: found[path].axes for path in ('v', 'full', 'left', 'right')} == dict.fromkeys(
    ('v', 'full', 'left', 'right'), ('inputs', 'outputs')
  )


def test_a_tied_embedding_is_a_kernel_that_says_so():
  fn = lambda p, ids: p['w'][ids] @ p['w'].T
  role = roles(fn, {'w': jnp.ones((9, 4))}, jnp.arange(3))['w']
  assert (role.kind, role.axes) == ('kernel', ('outputs', 'inputs'))
  assert 'looked up' in role.why


def test_a_training_step_returns_no_state_of_its_kernels():
  loss = lambda p, x: ((x @ p['w'] + p['b'][None]) ** 2).mean()
  step = lambda p, x: jax.tree.map(lambda a, b: a - b, p, jax.grad(loss)(p, x))
  found = roles(step, {'w': W, 'b': jnp.ones(8)}, X)
  assert (found['w'].kind, found['b'].kind) == ('kernel', 'vector')


def test_reports_and_lookups():
  fn = lambda p, x: x @ p['kernel'] + p['bias'][None]
  found = roles(fn, {'kernel': W, 'bias': jnp.ones(8)}, X)
  assert 'inputs, outputs' in str(found)
  assert '<table ' in found._repr_html_()
  assert found.to_dict()['bias']['kind'] == 'vector'
  assert found.kernels == ('kernel',)
  with pytest.raises(KeyError, match="no role of leaf 'kernle': did you mean 'kernel'"):
    found['kernle']
  with pytest.raises(ValueError, match='prune: `roles` must be those of every leaf; got none'):
    jprune.prune({'other': W}, 0.5, roles=found)
  with pytest.raises(ValueError, match=r'got shape \(6, 8\) for a leaf of shape \(8, 6\)'):
    jprune.prune({'kernel': W.T, 'bias': jnp.ones(8)}, 0.5, roles=found)
  with pytest.raises(TypeError, match='prune: `roles` must be roles of leaves; got dict'):
    jprune.prune({'kernel': W}, 0.5, roles={})


# ------------------------------------------------------------------ one matrix, many layouts

FAN_IN, FAN_OUT, LAYERS = (2, 6), (4, 2), 3


@st.composite
def layouts(draw):
  """How three matrices lie in one leaf: order of the factors, which of them share an axis."""
  order = draw(st.permutations(range(5)))  # layers, two factors of inputs, two of outputs
  cuts = draw(st.lists(st.booleans(), min_size=4, max_size=4))
  # how a function gets at a layer: all at once, or one by one
  return order, cuts, draw(st.sampled_from(['vmap', 'scan', 'index']))


def arranged(matrices, layout):
  order, cuts, _ = layout
  factors = (LAYERS, *FAN_IN, *FAN_OUT)
  x = matrices.reshape(factors).transpose(order)
  shape = [factors[order[0]]]
  for cut, i in zip(cuts, order[1:]):
    if cut:
      shape.append(factors[i])
    else:
      shape[-1] *= factors[i]
  return x.reshape(shape)


def restored(leaf, layout):
  order, _, _ = layout
  factors = (LAYERS, *FAN_IN, *FAN_OUT)
  x = leaf.reshape([factors[i] for i in order]).transpose(np.argsort(order))
  return x.reshape(LAYERS, np.prod(FAN_IN), np.prod(FAN_OUT))


@settings(max_examples=20, deadline=None)
@given(layouts(), st.integers(0, 9))
def test_one_matrix_gets_one_mask_in_whatever_layout(layout, seed):
  rng = np.random.default_rng(seed)
  matrices = rng.normal(size=(LAYERS, 12, 8)).astype(np.float32)
  other = rng.normal(size=(8, 4)).astype(np.float32)

  def fn(p, x):
    w, how = restored(p['w'], layout), layout[2]
    if how == 'vmap':
      y = jax.vmap(jnp.dot)(x, w)
    elif how == 'scan':
      y = jax.lax.scan(lambda _, each: (None, each[0] @ each[1]), None, (x, w))[1]
    else:
      y = jnp.stack([x[i] @ w[i] for i in range(LAYERS)])
    return y @ p['other']

  params = {'other': other, 'w': arranged(matrices, layout)}
  alone = {'other': other} | {f'w{i}': w for i, w in enumerate(matrices)}
  found = roles(fn, params, jnp.ones((LAYERS, 5, 12)))
  role = found['w']
  assert (role.fan_in, role.fan_out, role.stack) == (12, 8, LAYERS)
  np.testing.assert_array_equal(role.matrices(params['w'])[:, 0], matrices)
  np.testing.assert_array_equal(role.placed(role.matrices(params['w'])), params['w'])
  nofm, er = jprune.masks.NOfM(2, 4), jprune.distributions.erk
  for asked in ({'pattern': nofm}, {'sparsity': 0.6, 'distribution': er}, {'sparsity': 0.4}):
    masks = jprune.prune(params, roles=found, **asked)
    want = jprune.prune(alone, **asked)
    np.testing.assert_array_equal(masks['other'], want['other'])
    got = restored(np.asarray(masks['w']), layout)
    np.testing.assert_array_equal(got, [want[f'w{i}'] for i in range(LAYERS)], err_msg=str(asked))
