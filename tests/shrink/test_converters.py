"""Converters put primitives of their own in the place of functions, and trace the small function.

They have an implementation, some have a derivative, and nothing that XLA could compile.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.extend import core
from jax.interpreters import ad

from tests.shrink import _masks
from tests.shrink._networks import shrunk

SOURCE = {'relu': jax.nn, 'silu': jax.nn, 'concatenate': jnp, 'einsum': jnp, 'arange': jnp}
REAL = {name: getattr(module, name) for name, module in SOURCE.items()}
IMPLEMENTED = {
  'relu': lambda x: REAL['relu'](x),
  'silu': lambda x: jax.nn.relu(REAL['silu'](x)) - jax.nn.relu(-REAL['silu'](x)),
  'concatenate': lambda xs, axis: REAL['concatenate'](xs, axis),  # which is given *xs
  'einsum': lambda equation, *xs, precise: REAL['einsum'](equation, *xs),  # and equation=
  'arange': lambda n: REAL['arange'](n),  # which has to know it
}
SHAPES = {
  'relu': lambda x: x.shape,
  'silu': lambda x: x.shape,
  'concatenate': lambda x, y, axis: (*x.shape[:-1], x.shape[-1] + y.shape[-1]),
  'einsum': lambda x, w, equation, precise: (x.shape[0], w.shape[1]),
  'arange': lambda n: (5,),
}
PRIMITIVES = {name: core.Primitive(f'converter.{name}') for name in SOURCE}
for name, primitive in PRIMITIVES.items():
  primitive.def_impl(IMPLEMENTED[name])
  dtype = jnp.int32 if name == 'arange' else jnp.float32
  primitive.def_abstract_eval(
    lambda *xs, _name=name, _dtype=dtype, **params: jax.core.ShapedArray(
      SHAPES[_name](*xs, **params), _dtype
    )
  )
ad.primitive_jvps[PRIMITIVES['relu']] = lambda xs, ts: (xs[0], 1 / 0)  # never asked


@pytest.fixture
def converting(monkeypatch):
  """Within it the functions are those of a converter."""
  p = PRIMITIVES
  forms = {
    'relu': p['relu'].bind,
    'silu': p['silu'].bind,
    'concatenate': lambda xs, axis: p['concatenate'].bind(*xs, axis=axis),
    'einsum': lambda eq, *xs: p['einsum'].bind(*xs, equation=eq, precise=True),
    'arange': p['arange'].bind,
  }

  def start():
    for name, form in forms.items():
      monkeypatch.setattr(SOURCE[name], name, form)
    return monkeypatch.undo

  return start


def fn(params, x):
  def step(x, w):
    return x + jax.nn.silu(jnp.einsum('bi,ij->bj', x, w)), None

  x = jax.nn.relu(x @ params['in'])
  x = jnp.concatenate([x, jnp.tanh(x)], -1)
  x, _ = jax.lax.scan(step, x, params['loop'])
  return x @ params['out'] + jnp.arange(5).astype(x.dtype)[None]


def make_params():
  rng = np.random.default_rng(0)
  shapes = {'in': (3, 8), 'loop': (2, 16, 16), 'out': (16, 5)}
  return {
    name: jnp.asarray(rng.standard_normal(shape), jnp.float32) / 4 for name, shape in shapes.items()
  }


same = lambda a, b: _masks.assert_same(a, b, 1e-5, overall=True)


def test_a_converter_traces_the_small_function(converting):
  net = shrunk(fn, make_params(), jnp.ones((2, 3)))
  assert net.small.params['in'].shape == (3, 4)
  x = jnp.cos(jnp.arange(21.0)).reshape(7, 3)
  open_ = jax.ShapeDtypeStruct(export.symbolic_shape('b, 3'), jnp.float32)
  slope = lambda fn: jax.grad(lambda p, x: jnp.sin(fn(p, x)).sum())
  stop = converting()
  assert 'converter.relu' in str(jax.make_jaxpr(lambda x: fn(make_params(), x))(x))
  texts = [str(jax.make_jaxpr(net.small.fn)(net.small.params, each)) for each in (net.x, x, open_)]
  found = net.small.fn(net.small.params, x), slope(net.small.fn)(net.small.params, x)
  stop()
  assert not any('converter.' in text for text in texts)
  expected = net.fn(net.masked, x), net.small.plan.slice(slope(net.fn)(net.masked, x))
  same(expected, found)
  # nothing of it is left: neither in the small function nor in the one that was shrunk
  same(expected[0], net.small.fn(net.small.params, x))
  same(expected[0], jax.jit(fn)(net.masked, x))
  same(expected[1], slope(net.small.fn)(net.small.params, x))


@pytest.mark.parametrize(
  ('batch', 'impl'), [(6, lambda x: jnp.asarray(np.maximum(x, 0))), (5, core.Primitive('a').impl)]
)
def test_a_conversion_that_fails_leaves_all_as_it_was(converting, monkeypatch, batch, impl):
  net = shrunk(fn, make_params(), jnp.ones((2, 3)))
  x = jnp.ones((batch, 3))
  stop = converting()
  monkeypatch.setattr(PRIMITIVES['relu'], 'impl', impl)
  message = r'^small\.fn: .* no rule for primitive converter\.relu .* Call small\.fn with .* before'
  with pytest.raises(ValueError, match=message):
    jax.make_jaxpr(net.small.fn)(net.small.params, x)
  stop()
  same(net.fn(net.masked, x), net.small.fn(net.small.params, x))
  same(fn(net.masked, x), jax.jit(fn)(net.masked, x))
