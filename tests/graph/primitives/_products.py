"""Primitives that multiply and add."""

from jax import lax

from tests.graph.primitives._instances import Instance, Operand, form, sizes


@form('dot_general')
def _dot(rng):
  """Axes in any order, any number of each kind."""
  batch, summed, rows, columns = (sizes(rng, rng.integers(0, 3)) for _ in range(4))
  left, lb, lc = _mixed(rng, batch, summed, rows)
  right, rb, rc = _mixed(rng, batch, summed, columns)
  dtype = rng.choice(['float64', 'float64', 'int32', 'complex128'])
  fn = lambda x, y: lax.dot_general(x, y, ((lc, rc), (lb, rb)))
  return Instance(fn, (Operand(left, dtype), Operand(right, dtype)))


def _mixed(rng, *kinds):
  """A shape of all of them in any order, and where those of the first two stand."""
  flat = [(kind, i, n) for kind, each in enumerate(kinds) for i, n in enumerate(each)]
  flat = [flat[i] for i in rng.permutation(len(flat))]
  at = {(kind, i): place for place, (kind, i, _) in enumerate(flat)}
  places = [tuple(at[kind, i] for i in range(len(kinds[kind]))) for kind in (0, 1)]
  return tuple(n for *_, n in flat), *places


@form('dot_general')
def _dot_of_one(rng):
  """An array with itself."""
  shape = sizes(rng, 2)
  axis = int(rng.integers(2))
  fn = lambda x: lax.dot_general(x, x, (((axis,), (axis,)), ((), ())))
  return Instance(fn, (Operand(shape),))


@form('dot_general')
def _dot_with_constant(rng):
  n, m = sizes(rng, 2)
  table = rng.choice([0.0, 1.0, -2.0], (n, m))
  fn = lambda x: lax.dot_general(x, table, (((1,), (0,)), ((), ())))
  return Instance(fn, (Operand((*sizes(rng, 1), n)),), alike=False)


@form('dot_general')
def _dot_of_factors(rng):
  """The summed axis is two in one operand."""
  a, b, c = (int(n) for n in rng.choice([2, 3], 3))
  fn = lambda x, y: x.reshape(c, a * b) @ y
  return Instance(fn, (Operand((c, a, b)), Operand((a * b, c))))


@form('ragged_dot_general')
def _ragged(rng):
  groups, into, out_of = (int(n) for n in rng.choice([1, 2, 3], 3))
  rows = int(rng.integers(1, 6))
  operands = Operand((rows, into)), Operand((groups, into, out_of))
  sizes_of = Operand((groups,), 'int32', 0, rows // groups, lifted=False)
  return Instance(lax.ragged_dot, (*operands, sizes_of), batched=False)


@form('conv_general_dilated')
def _conv(rng):
  """Any number of spatial axes, of groups; any order of axes; any strides and dilations."""
  rank, groups, batches = int(rng.integers(0, 3)), int(rng.choice([1, 1, 2, 3])), 1
  if groups == 1 and rng.random() < 0.3:
    batches = 2
  batch, into, each = (int(n) for n in rng.choice([1, 2, 3], 3))
  space, window = sizes(rng, rank, low=1), tuple(int(n) for n in rng.choice([1, 2], rank))
  x = (batch * batches, into * groups, *space)
  w = (each * groups * batches, into, *window)
  pick = lambda *choices: tuple(int(n) for n in rng.choice(choices, rank))
  padding = [(int(a), int(b)) for a, b in rng.choice([0, 1, 2], (rank, 2))]
  orders = [tuple(map(int, rng.permutation(rank + 2))) for _ in range(3)]
  numbers = lax.ConvDimensionNumbers(*orders)
  place = lambda shape, order: tuple(shape[order.index(i)] for i in range(rank + 2))
  dtype = rng.choice(['float64', 'float64', 'complex128'])
  fn = lambda x, w: lax.conv_general_dilated(
    x,
    w,
    pick_once[0],
    padding,
    pick_once[1],
    pick_once[2],
    numbers,
    feature_group_count=groups,
    batch_group_count=batches,
  )
  pick_once = [pick(1, 1, 2), pick(1, 1, 2), pick(1, 1, 2)]
  operands = Operand(place(x, orders[0]), dtype), Operand(place(w, orders[1]), dtype)
  return Instance(fn, operands if groups == 1 else _finite(operands))


def _finite(operands):
  """As backends may multiply what is infinite in one group with the zeros of another."""
  return tuple(operand._replace(finite=True) for operand in operands)


@form('conv_general_dilated')
def _depthwise(rng):
  channels, times = int(rng.choice([2, 3])), int(rng.choice([1, 2]))
  fn = lambda x, w: lax.conv_general_dilated(
    x, w, (1,), 'SAME', dimension_numbers=('NWC', 'WIO', 'NWC'), feature_group_count=channels
  )
  operands = Operand((2, 3, channels)), Operand((2, 1, channels * times))
  return Instance(fn, _finite(operands))
