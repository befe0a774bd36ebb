"""Compiled once for a function, and let go with it."""

import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import pytest

import jprune
from jprune.graph import capture, capture_batches, verify
from tests.graph.captured import check_same, normal

PARAMS = {'in': normal(5, 6), 'out': normal(6, 3, seed=1)}
MASKS = jax.tree.map(lambda x: jnp.ones(x.shape, bool), PARAMS)
MASKS = {'in': MASKS['in'].at[:, 1].set(False), 'out': MASKS['out'].at[1].set(False)}
X = normal(8, 5, seed=2)


class Model:
  """Counts how often it is traced."""

  def __init__(self, by=1.0):
    self.traces, self.by = 0, by

  def apply(self, params, x):
    self.traces += 1
    return jnp.tanh(x @ params['in']) @ params['out'] * self.by


class Unhashable(Model):
  __hash__ = None
  __call__ = Model.apply


class Slotted:
  """Can't be referred to weakly."""

  __slots__ = ('traces',)
  __call__ = Model.apply
  by = 1.0


def prune(fn, params, x, method=jprune.reconstruct.sparsegpt):
  batches = [x, x]
  return jprune.reconstruct.prune(fn, params, batches, sparsity=0.5, method=method, progress=False)


CALLS = {
  'capture': lambda fn, params, x: capture(fn, params, x, gram=True),
  'capture_batches': lambda fn, params, x: capture_batches(fn, params, [x, x]),
  'verify': lambda fn, params, x: verify(fn, params, MASKS, x),
  'prune': prune,
  'prune, least_squares': functools.partial(prune, method=jprune.reconstruct.least_squares),
  'prune, chunked': lambda fn, params, x: jprune.reconstruct.prune(
    fn, params, [x], sparsity=0.5, sequential=True, chunked=True, progress=False
  ),
}


@pytest.mark.parametrize('name', CALLS)
def test_once_for_equal_shapes(name, compilations):
  call, model = CALLS[name], Model()
  others = jax.tree.map(lambda x: 2 * x, PARAMS), X - 1
  call(model.apply, PARAMS, X)
  assert model.traces
  assert compilations
  model.traces = 0
  compilations.clear()
  call(model.apply, *others)
  assert (model.traces, compilations) == (0, [])


def test_leaves_of_one_shape_share_what_is_compiled(compilations):
  fn = lambda params, x: functools.reduce(lambda h, w: jnp.tanh(h @ w), params, x)
  few, many = ([normal(5, 5, seed=i) for i in range(n)] for n in (2, 6))
  prune(fn, few, X)
  compilations.clear()
  prune(fn, many, X)
  assert len(compilations) == 2  # the function itself, and the sum of its statistics


def test_other_shapes_options_and_functions_are_others():
  model = Model()
  capture(model.apply, PARAMS, X)
  for call in (
    lambda: capture(model.apply, PARAMS, X[:4]),
    lambda: capture(model.apply, PARAMS, X, gram=True),
    lambda: capture(model.apply, PARAMS, X, where='in'),
  ):
    model.traces = 0
    stats = call()[1]
    assert model.traces == 1
  assert stats.paths == ('in',)
  outs = [capture(Model(by).apply, PARAMS, X)[0] for by in (1.0, 2.0)]  # at one address, maybe
  assert jnp.array_equal(2 * outs[0], outs[1])
  flipped = jax.tree.map(lambda keep: keep[::-1, ::-1], MASKS)
  verify(model.apply, PARAMS, MASKS, X)
  assert verify(model.apply, PARAMS, flipped, X).largest < 1e-5


@pytest.mark.parametrize('kind', [Unhashable, Slotted, jax.jit, functools.partial])
def test_functions_of_all_kinds(kind):
  fn = kind() if kind in (Unhashable, Slotted) else kind(Model().apply)
  if kind is Slotted:
    fn.traces = 0
  for _ in range(2):
    check_same(capture(fn, PARAMS, X)[1], capture(Model().apply, PARAMS, X)[1])
    assert verify(fn, PARAMS, MASKS, X).largest < 1e-5
  if kind is Unhashable:
    fn.traces = 0
    capture(fn, PARAMS, X)
    assert fn.traces == 0


def test_functions_are_let_go():
  model, table = Model(), normal(5, 5)
  held = [weakref.ref(x) for x in (model, table)]
  fn = lambda params, x, model=model, table=table: model.apply(params, x @ table)
  for name in ('capture', 'capture_batches', 'verify', 'prune'):
    CALLS[name](fn, PARAMS, X)
  del model, table, fn
  gc.collect()
  assert [ref() for ref in held] == [None, None]


def test_of_many_functions_the_last_ones_are_kept(monkeypatch):
  from jprune.graph._program import compiled

  monkeypatch.setattr(compiled, '_MOST', 2)
  programs, made = compiled.Compiled(), []
  first, second, third = (lambda: 1), (lambda: 2), (lambda: 3)
  for fn in (first, second, first, third, first, second):
    assert programs.of(fn, 'key', lambda call: made.append(call()) or call)() == fn()
  assert made == [1, 2, 3, 2]
