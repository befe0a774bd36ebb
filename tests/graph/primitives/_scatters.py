"""Primitives that write at indices."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.graph.primitives._indexing import index, indices, mode
from tests.graph.primitives._instances import Instance, Operand, form, forms, sizes

_METHODS = {
  'scatter': 'set',
  'scatter-add': 'add',
  'scatter-sub': 'subtract',
  'scatter-mul': 'multiply',
  'scatter-min': 'min',
  'scatter-max': 'max',
}
_NAMES = ' '.join(_METHODS)


def _write(name, x, key, y, chosen, unique=False):
  method = getattr(x.at[key], _METHODS[name])
  return method(y, mode=chosen, unique_indices=unique)


def _mode(rng):
  chosen, beyond = mode(rng)
  return ('drop' if chosen == 'fill' else chosen), beyond


def _at_list(name, rng):
  """To a list of indices of one axis, all of the other."""
  dtype = rng.choice(['float64', 'float64', 'int32'])
  shape, (chosen, beyond) = sizes(rng, 2, low=2), _mode(rng)
  axis, n = int(rng.integers(2)), int(rng.choice([1, 2, 3]))
  unique = name in ('scatter', 'scatter-mul')  # which of two is written is anyone's guess
  n = min(n, shape[axis]) if unique else n
  updates = tuple(n if i == axis else size for i, size in enumerate(shape))
  operands = Operand(shape, dtype), Operand(updates, dtype)
  key = lambda at: (slice(None),) * axis + (at,)
  fn = lambda x, y, at: _write(name, x, key(at), y, chosen, unique)
  if unique or rng.random() < 0.5:
    at = rng.permutation(shape[axis])[:n] if unique else indices(rng, (n,), shape[axis], beyond)
    return Instance(lambda x, y: fn(x, y, at), operands, alike=False)
  return Instance(fn, (*operands, index((n,), shape[axis], beyond)))


def _at_one(name, rng):
  """To one index of an axis."""
  shape, (chosen, beyond) = sizes(rng, 2, low=1), _mode(rng)
  axis = int(rng.integers(2))
  operands = Operand(shape), Operand((shape[1 - axis],))
  key = lambda at: (slice(None),) * axis + (at,)
  fn = lambda x, y, at: _write(name, x, key(at), y, chosen)
  if rng.random() < 0.5:
    at = int(rng.integers(-beyond, shape[axis] + beyond))
    return Instance(lambda x, y: fn(x, y, at), operands, alike=False)
  return Instance(fn, (*operands, index((), shape[axis], beyond)))


def _window(name, rng):
  """To a part of an axis at a constant place, or of both."""
  shape = sizes(rng, 2, low=2)
  low = [int(rng.integers(0, n)) for n in shape]
  high = [int(rng.integers(a + 1, n + 1)) for a, n in zip(low, shape)]
  if rng.random() < 0.5:
    low[0], high[0] = 0, shape[0]
  updates = tuple(b - a for a, b in zip(low, high))
  key = tuple(slice(a, b) for a, b in zip(low, high))
  operands = Operand(shape), Operand(updates)
  return Instance(lambda x, y: _write(name, x, key, y, None), operands)


def _of_constant(name, rng):
  """Where what is written to, or what is written, stands there."""
  shape = sizes(rng, 2, low=2)
  order = rng.permutation(shape[1])
  base = rng.choice([0.0, 1.0]) * np.ones(shape)
  if rng.random() < 0.5:
    fn = lambda y: _write(name, jnp.asarray(base), (slice(None), order), y, None, True)
  else:
    fn = lambda x: _write(name, x, (slice(None), order), jnp.asarray(base), None, True)
  return Instance(fn, (Operand(shape),), alike=False)


def _one_each(name, rng):
  """Rows with indices of their own."""
  n, m, k = sizes(rng, 3, low=1)
  k = 1 if name in ('scatter', 'scatter-mul') else k
  fn = jax.vmap(lambda x, y, at: _write(name, x, at, y, 'drop'))
  return Instance(fn, (Operand((n, m)), Operand((n, k)), index((n, k), m, 1)))


def _whole_axes(name, rng):
  """Windows that take all of an axis, with an index for that one too, out of bounds or not."""
  shape, (chosen, beyond) = sizes(rng, 2, low=1), _mode(rng)
  axis = int(rng.integers(2))
  part = tuple(int(rng.integers(1, n + 1)) if i == axis else n for i, n in enumerate(shape))
  numbers = lax.ScatterDimensionNumbers((0, 1), (), (0, 1))
  write = getattr(lax, name.replace('-', '_'))
  how = lax.GatherScatterMode.from_any({'drop': 'fill'}.get(chosen, chosen))
  fn = lambda x, y, i, j: write(x, jnp.stack([j, i] if axis else [i, j]), y, numbers, mode=how)
  starts = index((), shape[axis] - part[axis] + 1, beyond), index((), 1, beyond)
  return Instance(fn, (Operand(shape), Operand(part), *starts))


for _make in (_at_list, _at_one, _window, _of_constant, _one_each, _whole_axes):
  forms(_NAMES, _make)


@form('scatter-add')
def _segments(rng):
  """Sums of what has the same number."""
  n, m = sizes(rng, 2, low=1)
  fn = lambda x, at: jax.ops.segment_sum(x, at, num_segments=3)
  return Instance(fn, (Operand((n, m)), index((n,), 3, 0)))


@form('scatter-add')
def _gradient_of_take(rng):
  n, m = sizes(rng, 2, low=2)
  at = indices(rng, (3,), m, 0)
  take = lambda x: x[:, at]
  fn = lambda x, y: jax.vjp(take, x)[1](y)[0] * x
  return Instance(fn, (Operand((n, m)), Operand((n, 3))), alike=False)


@form('scatter-add scatter')
def _dropped_window(rng):
  """A window that starts out of bounds is not written at all."""
  n, m = sizes(rng, 2, low=2)
  k, at = int(rng.integers(1, n + 1)), np.array([rng.integers(-1, n + 1)], np.int32)
  numbers = lax.ScatterDimensionNumbers((0, 1), (), (0,))
  chosen = rng.choice(['drop', 'clip'])
  options = {'mode': lax.GatherScatterMode.from_any({'drop': 'fill'}.get(chosen, chosen))}
  fn = lambda x, y: (
    lax.scatter_add(x, at, y, numbers, **options) + lax.scatter(x, at, y, numbers, **options)
  )
  return Instance(fn, (Operand((n, m)), Operand((k, m))))
