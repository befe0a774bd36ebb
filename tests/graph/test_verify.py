"""Verification on inputs that are hard to be right on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune import graph
from jprune.graph._axes.pruned import ZERO, Status
from jprune.graph._rules import base
from jprune.graph._shrunk import hard_inputs
from tests import zoo


def network():
  rng = np.random.default_rng(0)
  shapes = {'table': (5, 3), 'in': (3, 8), 'out': (8, 2)}
  params = {k: jnp.asarray(rng.standard_normal(s), jnp.float32) for k, s in shapes.items()}

  def fn(params, tokens, x):
    return jax.nn.softplus((params['table'][tokens] + x) @ params['in']) @ params['out']

  args = (
    jnp.array([[0, 4], [1, 2], [3, 3]]),
    jnp.asarray(rng.standard_normal((3, 2, 3)), jnp.float32),
  )
  found = graph.channels(fn, params, *args)
  masks = jprune.masks.channels(jprune.scores.magnitude(params), found, sparsity=0.5)
  return fn, params, masks, args


def test_hard_inputs_have_what_they_are_named_after():
  args = {'x': jnp.array([[1.0, -2.0, 3.0, 4.0], [5.0, 6.0, -7.0, 8.0]]), 'i': jnp.array([3, 4])}
  args |= {'mask': jnp.array([True, False]), 'key': jax.random.key(0), 'b': jnp.uint8(3)}
  found = dict(hard_inputs.hard_inputs(args))
  for name, varied in found.items():
    for path, leaf in varied.items():
      assert leaf.dtype == args[path].dtype, (name, path)
      if not name.startswith('nothing'):
        assert leaf.shape == args[path].shape, (name, path)
  assert not np.signbit(found['zeros']['x']).any()
  assert not found['zeros']['x'].any()
  assert np.signbit(found['negative zeros']['x']).all()
  assert not found['negative zeros']['x'].any()
  assert found['negative zeros']['i'].tolist() == [-1, -1]
  assert found['negative zeros']['b'] == 0
  assert (found['repeated rows']['x'] == args['x'][:1]).all()
  assert found['large values']['x'].max() == 8192
  assert found['large values']['i'].min() == 2**31 - 1
  assert 0 < found['tiny values']['x'].max() < 1e-17
  assert found['tiny values']['i'].max() == -(2**31)
  assert found['mixed values']['x'].tolist() == [
    [0.0, -0.0, 3072.0, 4.0],
    [0.0, -0.0, -7168.0, 8.0],
  ]
  assert found['nothing along axis 0']['x'].shape == (0, 4)
  assert found['nothing along axis 0']['i'].shape == (0,)
  assert found['nothing along axis 1']['x'].shape == (2, 0)


def test_hard_inputs_are_compared_and_told():
  fn, params, masks, args = network()
  found = graph.verify(fn, params, masks, *args, inputs='hard')
  assert found.relative < 1e-5
  assert {'zeros', 'negative zeros', 'repeated rows', 'mixed values'} <= found.inputs.keys()
  assert 'nothing along axis 0' in found.inputs
  assert dict(found.skipped)['nothing along axis 2'].startswith('for which fn raises')
  text = str(found)
  assert f'on {len(found.inputs)} kinds of hard ones' in text
  assert 'Skipped: nothing along axis 2, for which fn raises' in text
  assert not graph.verify(fn, params, masks, *args).inputs


def test_a_wrong_rule_is_found_on_zeros_alone(monkeypatch):
  """What is added is zero but for inputs that are."""

  def made():  # anew, as verify remembers what it has compiled
    return lambda params, x: (jnp.where(x[:, :1] == 0, 1.0, 0.0) + x @ params['in']).min(-1)

  wrong = lambda site, ins: [
    Status(ZERO, dict.fromkeys(site.prunable(v), ZERO)) for v in site.eqn.outvars
  ]
  params = {'in': jnp.asarray(np.random.default_rng(0).standard_normal((3, 8)), jnp.float32)}
  masks = {'in': jnp.ones((3, 8), bool).at[:, :4].set(False)}
  x = 9 + jnp.ones((2, 3))
  assert graph.verify(made(), params, masks, x, inputs='hard').relative < 1e-5
  monkeypatch.setitem(base.RULES, 'add', dataclasses.replace(base.RULES['add'], status=wrong))
  assert graph.verify(made(), params, masks, x).relative < 1e-5
  found = graph.verify(made(), params, masks, x, inputs='hard')
  assert found.relative > 0.5
  assert found.inputs['zeros'] > 0.5


def test_inputs_are_none_or_hard():
  with pytest.raises(ValueError, match="verify: `inputs` must be None or 'hard'; got 'hrad'"):
    graph.verify(lambda p, x: x @ p['w'], {'w': jnp.ones((2, 2))}, {'w': None}, x, inputs='hrad')


x = jnp.ones((1, 2))


@pytest.mark.parametrize('name', ['vit', 'embedding_mean', 'channel_shuffle'])
def test_networks_are_the_same_on_hard_inputs(name):
  fn, params, args = zoo.made(name)
  found = graph.channels(fn, params, *args)
  masks = jprune.masks.channels(jprune.scores.magnitude(params), found, sparsity=0.5)
  found = graph.verify(fn, params, masks, *args, inputs='hard')
  assert len(found.inputs) >= 3
  assert found.relative < 1e-4
