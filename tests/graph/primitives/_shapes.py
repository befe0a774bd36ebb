"""Primitives that move entries and change shapes."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.graph.primitives._instances import Instance, Operand, form, sizes
from tests.graph.primitives._unary import bound


def _dtype(rng):
  return rng.choice(['float64', 'int32', 'bool', 'complex128'])


def _operand(rng, low=0, rank=None):
  return Operand(sizes(rng, rng.integers(1, 4) if rank is None else rank, low), _dtype(rng))


_RESHAPES = [
  ((2, 6), (12,)),
  ((12,), (3, 4)),
  ((4, 6), (2, 2, 6)),
  ((4, 6), (4, 3, 2)),
  ((4, 6), (8, 3)),
  ((6, 4), (3, 8)),
  ((2, 3, 4), (6, 4)),
  ((2, 3, 4), (2, 12)),
  ((2, 3, 2), (4, 3)),
  ((4, 1, 3), (1, 4, 3, 1)),
  ((1, 1), (1,)),
  ((3, 0), (0, 2)),
  ((6, 2), (2, 6)),
  ((4, 9), (6, 6)),
  ((8,), (2, 2, 2)),
  ((), (1, 1)),
]


@form('reshape')
def _reshape(rng):
  old, new = _RESHAPES[rng.integers(len(_RESHAPES))]
  return Instance(lambda x: lax.reshape(x, new), (Operand(old, _dtype(rng)),))


@form('reshape')
def _reshape_in_order(rng):
  old, new = _RESHAPES[rng.integers(len(_RESHAPES))]
  order = rng.permutation(len(old))
  shape = tuple(np.array(old, int)[np.argsort(order)])
  fn = bound('reshape', new_sizes=new, dimensions=tuple(map(int, order)), sharding=None)
  return Instance(fn, (Operand(tuple(map(int, shape)), _dtype(rng)),), batched=False)


@form('reshape transpose')
def _reshape_of_transposed(rng):
  """Factors of an axis change places."""
  a, b, c = (int(n) for n in rng.choice([1, 2, 3], 3))
  fn = lambda x: x.reshape(a, b, c).transpose(rng_order).reshape(a * b * c)
  rng_order = tuple(map(int, rng.permutation(3)))
  return Instance(fn, (Operand((a * b * c,), _dtype(rng)),))


@form('transpose')
def _transpose(rng):
  operand = _operand(rng)
  order = rng.permutation(len(operand.shape))
  return Instance(lambda x: lax.transpose(x, order), (operand,))


@form('broadcast_in_dim')
def _broadcast(rng):
  shape = sizes(rng, rng.integers(0, 3))
  new = sizes(rng, 4, low=1)
  axes = sorted(rng.permutation(4)[: len(shape)].tolist())
  for n, axis in zip(shape, axes):
    new = (*new[:axis], n if n != 1 or rng.random() < 0.5 else new[axis], *new[axis + 1 :])
  return Instance(lambda x: lax.broadcast_in_dim(x, new, axes), (Operand(shape, _dtype(rng)),))


@form('squeeze')
def _squeeze(rng):
  operand = _operand(rng)
  shape = operand.shape
  for axis in (axes := sorted(rng.permutation(len(shape) + 1)[:2].tolist())):
    shape = (*shape[:axis], 1, *shape[axis:])
  return Instance(lambda x: lax.squeeze(x, axes), (operand._replace(shape=shape),))


@form('concatenate')
def _concatenate(rng):
  axis, operand = int(rng.integers(2)), _operand(rng, rank=2)
  lengths = sizes(rng, rng.integers(1, 4))
  shapes = [(*operand.shape[:axis], n, *operand.shape[axis + 1 :]) for n in lengths]
  operands = tuple(operand._replace(shape=shape) for shape in shapes)
  return Instance(lambda *xs: lax.concatenate(xs, axis), operands)


@form('concatenate')
def _concatenate_with_itself(rng):
  axis, operand = int(rng.integers(2)), _operand(rng, rank=2)
  fn = lambda x, y: lax.concatenate([x, y, x], axis)
  return Instance(fn, (operand, operand))


@form('concatenate add')
def _segments_meet(rng):
  """Cuts of two sums at other places."""
  n, m, k = (int(n) for n in rng.integers(1, 4, 3))
  fn = lambda a, b, c, d: lax.concatenate([a, b], 0) + lax.concatenate([c, d], 0)
  shapes = ((n + k,), (m,), (n,), (m + k,))
  return Instance(fn, tuple(map(Operand, shapes)))


@form('stack')
def _stack(rng):
  operand, axis = _operand(rng), int(rng.integers(2))
  return Instance(lambda *xs: jnp.stack(xs, axis), (operand,) * int(rng.integers(1, 4)))


@form('unstack')
def _unstack(rng):
  operand = _operand(rng, low=1, rank=2)
  axis = int(rng.integers(2))
  return Instance(lambda x: jnp.unstack(x, axis=axis), (operand,))


@form('pad')
def _pad(rng):
  operand = _operand(rng, rank=2)
  config = [(int(rng.integers(0, 3)), int(rng.integers(0, 3)), 0) for _ in range(2)]
  value = np.asarray(rng.choice([0, 0, 1]), operand.dtype)
  if rng.random() < 0.5:
    return Instance(lambda x: lax.pad(x, value, config), (operand,))
  return Instance(lambda x, y: lax.pad(x, y, config), (operand, operand._replace(shape=())))


@form('pad')
def _pad_odd(rng):
  operand = _operand(rng, low=2, rank=2)
  config = [
    (int(rng.integers(-1, 2)), int(rng.integers(-1, 2)), int(rng.integers(0, 2))),
    (0, 0, 0),
  ]
  order = int(rng.choice([1, -1]))
  value = np.asarray(rng.choice([0, 1]), operand.dtype)
  return Instance(lambda x: lax.pad(x, value, config[::order]), (operand,))


@form('slice')
def _slice(rng):
  n, m = (int(n) for n in rng.integers(1, 7, 2))
  low = rng.integers(0, [n + 1, m + 1])
  high = rng.integers(low, [n + 1, m + 1])
  strides = [None, (1, 2), (2, 1), (3, 2)][rng.integers(4)]
  fn = lambda x: lax.slice(x, low, high, strides)
  return Instance(fn, (Operand((n, m), _dtype(rng)),))


@form('slice')
def _slice_every_few(rng):
  stride, times = int(rng.choice([2, 3])), int(rng.choice([2, 3]))
  low = int(rng.integers(stride))
  fn = lambda x: lax.slice(x, [low], [stride * times], [stride])
  return Instance(fn, (Operand((stride * times,), _dtype(rng)),))


@form('slice concatenate')
def _roll(rng):
  n, k = int(rng.integers(2, 6)), int(rng.integers(0, 3))
  return Instance(lambda x, y: x + jnp.concatenate([y[k % n :], y[: k % n]]), (Operand((n,)),) * 2)


@form('slice')
def _slice_of_factors(rng):
  """An axis of factors is cut, in step with them or not."""
  a, b = (int(n) for n in rng.choice([2, 3], 2))
  low, high = sorted(rng.integers(0, a * b + 1, 2).tolist())
  fn = lambda x: lax.slice(x.reshape(a * b), [low], [high])
  return Instance(fn, (Operand((a, b), _dtype(rng)),))


@form('split')
def _split(rng):
  operand, axis = _operand(rng, rank=2), int(rng.integers(2))
  cuts = np.sort(rng.integers(0, operand.shape[axis] + 1, rng.integers(0, 3)))
  parts = [int(n) for n in np.diff([0, *cuts, operand.shape[axis]])]
  return Instance(lambda x: lax.split(x, parts, axis), (operand,))


@form('rev')
def _rev(rng):
  operand = _operand(rng, rank=2)
  axes = [(0,), (1,), (0, 1)][rng.integers(3)]
  return Instance(lambda x: lax.rev(x, axes), (operand,))


@form('rev add')
def _rev_added(rng):
  (n,) = sizes(rng, 1, low=1)
  return Instance(lambda x: x + lax.rev(x, (0,)), (Operand((n,)),))


@form('tile')
def _tile(rng):
  operand = _operand(rng, rank=2)
  reps = tuple(int(n) for n in rng.choice([1, 1, 2, 3], 2))
  return Instance(_tiled(reps), (operand,))


def _tiled(reps):
  try:
    return bound('tile', reps=reps)
  except AttributeError:
    return lambda x: lax.tile(x, reps)
