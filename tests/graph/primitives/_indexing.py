"""Primitives that read at indices, known while tracing or not."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.graph.primitives._instances import Instance, Operand, form, sizes

MODES = ('clip', 'fill', 'promise_in_bounds')


def _dtype(rng):
  return rng.choice(['float64', 'float64', 'int32', 'bool'])


def mode(rng):
  """How out-of-bounds indices are meant, and by how many places indices may be so."""
  chosen = rng.choice(MODES)
  return chosen, 0 if chosen == 'promise_in_bounds' else 2


def index(shape, size, beyond):
  """An operand that indexes an axis."""
  return Operand(shape, 'int32', -beyond, size - 1 + beyond, lifted=beyond > 0)


def indices(rng, shape, size, beyond):
  """The same as a constant."""
  return rng.integers(-beyond, size + beyond, shape).astype(np.int32)


def _fill(rng, operand, chosen):
  if chosen != 'fill' or rng.random() < 0.5:
    return {}
  return {'fill_value': np.asarray(rng.choice([0, 1]), operand.dtype).item()}


@form('gather')
def _take(rng):
  """Entries of one axis, at constant indices; a list of them, or a table."""
  operand = Operand(sizes(rng, 2, low=2), _dtype(rng))
  axis, (chosen, beyond) = int(rng.integers(2)), mode(rng)
  beyond = beyond if rng.random() < 0.4 else 0
  shape = [(3,), (1,), (4,), (2, 2), (3, 1)][rng.integers(5)]
  at = indices(rng, shape, operand.shape[axis], beyond)
  fill = _fill(rng, operand, chosen)
  fn = lambda x: x.at[(slice(None),) * axis + (at,)].get(mode=chosen, **fill)
  return Instance(fn, (operand,), alike=False)


@form('gather')
def _take_computed(rng):
  operand = Operand(sizes(rng, 2, low=2), _dtype(rng))
  axis, (chosen, beyond) = int(rng.integers(2)), mode(rng)
  fill = _fill(rng, operand, chosen)
  fn = lambda x, at: x.at[(slice(None),) * axis + (at,)].get(mode=chosen, **fill)
  at = index(sizes(rng, rng.integers(0, 3), low=1), operand.shape[axis], beyond)
  return Instance(fn, (operand, at))


@form('gather')
def _window(rng):
  """A part of each axis, at a constant place or not."""
  shape = sizes(rng, 2, low=2)
  operand, (chosen, beyond) = Operand(shape, _dtype(rng)), mode(rng)
  part = tuple(int(rng.integers(1, n + 1)) for n in shape)
  collapsed = tuple(i for i in range(2) if part[i] == 1 and rng.random() < 0.5)
  offsets = tuple(range(2 - len(collapsed)))
  numbers = lax.GatherDimensionNumbers(offsets, collapsed, (0, 1))
  options = {'mode': chosen, 'fill_value': _fill(rng, operand, chosen).get('fill_value')}
  gather = lambda x, at: lax.gather(x, at, numbers, part, **options)
  room = min(n - k for n, k in zip(shape, part))
  if rng.random() < 0.6:
    at = np.array([rng.integers(0, n - k + 1) for n, k in zip(shape, part)], np.int32)
    at += int(rng.random() < 0.3) * beyond
    return Instance(lambda x: gather(x, at), (operand,), alike=False)
  return Instance(gather, (operand, index((2,), room + 1, beyond)))


@form('gather')
def _beside_whole_axes(rng):
  """Windows that take all of an axis, with an index for that one too, out of bounds or not."""
  shape = sizes(rng, 3, low=1)
  operand, (chosen, beyond) = Operand(shape, _dtype(rng)), mode(rng)
  axis, count = int(rng.integers(3)), int(rng.integers(1, 4))
  part = tuple(int(rng.integers(1, n + 1)) if i == axis else n for i, n in enumerate(shape))
  collapsed = (axis,) if part[axis] == 1 and rng.random() < 0.5 else ()
  numbers = lax.GatherDimensionNumbers(tuple(range(1, 4 - len(collapsed))), collapsed, (0, 1, 2))
  options = {'mode': chosen, 'fill_value': _fill(rng, operand, chosen).get('fill_value')}
  gather = lambda x, at: lax.gather(x, at, numbers, part, **options)
  if rng.random() < 0.5:
    room = np.array(shape) - part
    at = rng.integers(0, room + 1, (count, 3)).astype(np.int32)
    at += (rng.random((count, 3)) < 0.2) * np.int32(beyond)
    return Instance(lambda x: gather(x, at), (operand,), alike=False)
  starts = index((count,), shape[axis] - part[axis] + 1, beyond)
  columns = lambda i, j: jnp.stack([i if k == axis else j for k in range(3)], 1)
  fn = lambda x, i, j: gather(x, columns(i, j))
  return Instance(fn, (operand, starts, index((count,), 1, beyond)))


@form('gather')
def _several_axes(rng):
  """Pairs of indices; a pair of lists that are spread against each other."""
  operand, (chosen, beyond) = Operand(sizes(rng, 3, low=2), _dtype(rng)), mode(rng)
  rows, columns = [((2,), (2,)), ((3, 1), (1, 2)), ((), (2,))][rng.integers(3)]
  axes = sorted(rng.permutation(3)[:2].tolist())
  key = lambda a, b: tuple([a, b][axes.index(i)] if i in axes else slice(None) for i in range(3))
  get = lambda x, a, b: x.at[key(a, b)].get(mode=chosen)
  first, second = (operand.shape[axis] for axis in axes)
  if rng.random() < 0.5:
    a, b = indices(rng, rows, first, 0), indices(rng, columns, second, beyond)
    return Instance(lambda x: get(x, a, b), (operand,), alike=False)
  jnp_rank = lambda x, a, b: get(x, *jnp.broadcast_arrays(a, b))
  operands = operand, index(rows, first, beyond), index(columns, second, beyond)
  return Instance(jnp_rank if rows and columns else get, operands)


@form('gather')
def _along_axis(rng):
  """One index for each entry."""
  operand = Operand(sizes(rng, 2, low=1), _dtype(rng))
  axis, n = int(rng.integers(2)), int(rng.choice([1, 2, 3]))
  shape = tuple(n if i == axis else size for i, size in enumerate(operand.shape))
  fn = lambda x, at: jnp.take_along_axis(x, at, axis, mode='clip')
  if rng.random() < 0.3:
    at = indices(rng, shape, operand.shape[axis], 0)
    return Instance(lambda x: fn(x, at), (operand,), alike=False)
  return Instance(fn, (operand, index(shape, operand.shape[axis], 1)))


@form('gather')
def _permuted(rng):
  (n,) = sizes(rng, 1, low=2)
  order = rng.permutation(n)
  fn = lambda x, y: x + y.at[order].get(mode='promise_in_bounds', unique_indices=True)
  return Instance(fn, (Operand((n,)),) * 2)


@form('gather')
def _by_what_was_reduced(rng):
  """The index is a result; what is read at it has an axis that may be pruned."""
  n, m, k = sizes(rng, 3, low=2)
  fn = lambda x, y: x[:, jnp.argmax(y, 0)]
  return Instance(fn, (Operand((n, m)), Operand((m, k))))


@form('dynamic_slice')
def _dynamic_slice(rng):
  shape = sizes(rng, 2, low=1)
  part = tuple(int(rng.integers(0, n + 1)) for n in shape)
  operand = Operand(shape, _dtype(rng))
  at = [int(n) for n in rng.integers(-1, 4, 2)]
  kind = rng.integers(3)
  if kind == 0:
    return Instance(lambda x: lax.dynamic_slice(x, at, part), (operand,))
  start = index((), max(shape), 1)
  if kind == 1:
    return Instance(lambda x, i: lax.dynamic_slice(x, (i, np.int32(at[1])), part), (operand, start))
  return Instance(lambda x, i, j: lax.dynamic_slice(x, (i, j), part), (operand, start, start))


@form('dynamic_update_slice')
def _dynamic_update_slice(rng):
  shape = sizes(rng, 2, low=1)
  part = tuple(int(rng.integers(0, n + 1)) for n in shape)
  operand = Operand(shape, _dtype(rng))
  operands = operand, operand._replace(shape=part)
  at = [np.int32(n) for n in rng.integers(-1, 4, 2)]
  kind = rng.integers(3)
  if kind == 0:
    return Instance(lambda x, y: lax.dynamic_update_slice(x, y, at), operands)
  start = index((), max(shape), 1)
  if kind == 1:
    fn = lambda x, y, i: lax.dynamic_update_slice(x, y, (at[0], i))
    return Instance(fn, (*operands, start))
  fn = lambda x, y, i, j: lax.dynamic_update_slice(x, y, (i, j))
  return Instance(fn, (*operands, start, start))


@form('dynamic_update_slice')
def _update_of_constant(rng):
  """What is written to is zeros, or numbers, that stand there."""
  n, m = sizes(rng, 2, low=1)
  k, low = int(rng.integers(1, n + 1)), np.int32(rng.integers(0, n))
  base = rng.choice([0.0, 1.0]) * np.ones((n, m))
  fn = lambda y: lax.dynamic_update_slice(base, y, (low, np.int32(0)))
  return Instance(fn, (Operand((k, m)),))


@form('gather')
def _batched_by_hand(rng):
  """``vmap`` of a slice at an index of its own."""
  n, m, b = sizes(rng, 3, low=1)
  part = int(rng.integers(1, m + 1))
  fn = jax.vmap(lambda x, i: lax.dynamic_slice(x, (np.int32(0), i), (n, part)))
  return Instance(fn, (Operand((b, n, m), _dtype(rng)), index((b,), m, 1)))
