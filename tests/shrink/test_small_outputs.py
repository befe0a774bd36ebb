"""Results that may come out small, and masks that have no effect."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from tests.shrink import _masks

X = np.linspace(-1.0, 1.0, 16, dtype=np.float32).reshape(2, 8)


def fn(params, x):
  hidden = jax.nn.sigmoid(x @ params['in'])  # not zero where it is pruned
  centred = hidden - hidden.mean(-1, keepdims=True)
  return centred @ params['out'], {'hidden': hidden, 'norm': jnp.square(hidden).sum(-1)}


def make():
  rng = np.random.default_rng(0)
  shapes = {'in': (8, 32), 'out': (32, 4)}
  params = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
  graph = jprune.graph.channels(fn, params, X, small_outputs='hidden')
  return params, jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5)


@pytest.mark.parametrize('small_outputs', ['hidden$', lambda path, leaf: leaf.shape[1:] == (32,)])
def test_features_come_out_small(small_outputs, tmp_path):
  params, masks = make()
  small = jprune.shrink(fn, params, masks, X, small_outputs=small_outputs)
  assert jax.tree.map(np.shape, small.params) == {'in': (8, 16), 'out': (16, 4)}
  kept = np.asarray(small.plan.kept['out'][0])
  out, features = fn(jprune.apply(params, masks), X)
  jprune.save_shrunk(tmp_path / 'small', small)
  again = jprune.load_shrunk(tmp_path / 'small', fn, small_outputs=small_outputs)
  for each in (small, again):
    found, found_features = each.fn(each.params, X[:1])
    _masks.assert_same(out[:1], found, 1e-5)
    _masks.assert_same(features['hidden'][:1, kept], found_features['hidden'], 1e-5)
    _masks.assert_same(features['norm'][:1], found_features['norm'], 1e-5)
  slope = jax.grad(lambda p: small.fn(p, X)[1]['hidden'].sum())(small.params)
  assert slope['in'].shape == (8, 16)


def test_small_outputs_of_another_form():
  params, masks = make()
  for value, error, message in (
    (
      'features',
      ValueError,
      r"a filter that selects a leaf; got 'features', which selects",
    ),
    ('(', ValueError, r'a regular expression; got'),
    (True, TypeError, r'a regular expression, or a predicate \(path, leaf\) -> bool; got True'),
  ):
    for call in ('shrink', 'channels'):
      given = (params, masks, X) if call == 'shrink' else (params, X)
      function = jprune.shrink if call == 'shrink' else jprune.graph.channels
      with pytest.raises(error, match=rf'^{call}: `small_outputs` must be {message}'):
        function(fn, *given, small_outputs=value)


def test_masks_without_any_effect():
  params, masks = make()
  message = (
    r"^shrink: `masks` must be masks of which some units can .* axis 1 of leaf 'in' "
    r'is frozen \(model output 1/hidden.*\)\. .*small_outputs=; strict=False'
  )
  with pytest.raises(ValueError, match=message):
    jprune.shrink(fn, params, masks, X)
  kept = jprune.shrink(fn, params, masks, X, strict=False)
  assert kept.plan.kept == {}
  assert 'of them are masked, in channels that stay' in str(kept.plan)
  assert 'model output 1/hidden' in str(kept.plan)
  single = jprune.prune(params, 0.5)  # single weights are zeros in what stays
  with pytest.warns(UserWarning, match='nothing gets smaller'):
    assert jprune.shrink(fn, params, single, X).plan.zeros > 0
  assert jprune.shrink(fn, params, dict.fromkeys(params), X).plan.zeros == 0
