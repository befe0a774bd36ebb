"""Entries for ``lax`` calls with all of their freedom: dimension numbers, windows, indices."""

import numpy as np

from tests.programs._fields import Refused


def _sizes(g, total):
  """A random factorisation."""
  out = []
  while total > 1 and len(out) < 4:
    found = [n for n in range(2, total + 1) if total % n == 0]
    n = int(g.choice(found))
    out.append(n)
    total //= n
  if total > 1:
    out.append(total)
  if g.chance(0.2):
    out.insert(int(g.rng.integers(len(out) + 1)), 1)
  return tuple(int(n) for n in out)


def reshape(g):
  name = g.pick('fi', 1)
  return g.emit(f'{name}.reshape({_sizes(g, int(np.prod(g.shape(name))))})')


def reshape_and_back(g):
  """To other factors, something along one of them, and back."""
  name = g.pick('f', 1)
  shape = g.shape(name)
  sizes = _sizes(g, int(np.prod(shape))) or (1,)
  axis = int(g.rng.integers(len(sizes)))
  change = g.choice(
    [
      'jnp.flip(X, A)',
      'X - X.mean(A, keepdims=True)',
      'X * jax.nn.softmax(X, A)',
      'jnp.roll(X, 1, A)',
      'jnp.moveaxis(X, A, 0)',
      'X + X.max(A, keepdims=True)',
      'X.swapaxes(A, -1)',
    ]
  )
  text = change.replace('X', f'{name}.reshape({sizes})').replace('A', str(axis))
  return g.emit(f'({text}).reshape({shape})')


def einsum(g):
  """Two or three operands, letters at random, some of which are summed."""
  first = g.pick('f', 1, most=3)
  letters = {}
  word = ''
  for n in g.shape(first):
    same = [c for c, size in letters.items() if size == n]
    if same and g.chance(0.1):
      word += g.choice(same)
    else:
      c = 'abcdefgh'[len(letters)]
      letters[c] = n
      word += c
  words, names = [word], [first]
  for _ in range(int(g.choice([1, 1, 2]))):
    if g.chance(0.3):
      other = g.pick('f', 1, most=3)
      word = ''
      for n in g.shape(other):
        same = [c for c, size in letters.items() if size == n and c not in word]
        if same and g.chance(0.7):
          word += g.choice(same)
        else:
          c = 'abcdefghijklm'[len(letters)]
          letters[c] = n
          word += c
    else:
      known = [c for c in letters if g.chance(0.5)]
      if g.chance(0.5) or not known:
        c = 'abcdefghijklm'[len(letters)]
        letters[c] = g.channels()
        known.append(c)
      word = ''.join(g.choice(known) for _ in range(1))
      word = ''.join(np.array(known)[g.rng.permutation(len(known))])
      other = g.param([letters[c] for c in word])
    words.append(word)
    names.append(other)
  used = sorted(set(''.join(words)))
  out = [c for c in used if g.chance(0.6)]
  out = ''.join(np.array(out)[g.rng.permutation(len(out))]) if out else ''
  return g.emit(f'jnp.einsum("{",".join(words)}->{out}", {", ".join(names)})')


def dot_general(g):
  a = g.pick('f', 2, most=3)
  sh = g.shape(a)
  axes = g.rng.permutation(len(sh)).tolist()
  batch = axes[:1] if len(sh) > 2 and g.chance(0.5) else []
  summed = axes[len(batch) : len(batch) + int(g.choice([1, 1, 2, 0]))]
  places = [*((i, 'b') for i in batch), *((i, 's') for i in summed), (None, 'f')]
  order = [places[i] for i in g.rng.permutation(len(places))]
  w = g.param([g.channels() if i is None else sh[i] for i, _ in order])
  at = lambda i: next(j for j, (k, _) in enumerate(order) if k == i)
  numbers = (
    (tuple(summed), tuple(at(i) for i in summed)),
    (tuple(batch), tuple(at(i) for i in batch)),
  )
  swap = g.chance(0.3)
  if swap:
    numbers = tuple(pair[::-1] for pair in numbers)
  return g.emit(f'lax.dot_general({w if swap else a}, {a if swap else w}, {numbers})')


def conv(g):
  """Of images, in any layout."""
  name = g.pick('f', 3, fits=lambda sh: len(sh) in (3, 4))
  if len(g.shape(name)) == 3:
    (name,) = g.emit(f'{name}[:, None]')
  layout = g.choice(['NHWC', 'NHWC', 'NCHW', 'HWNC', 'CHWN'])
  kernel = g.choice(['HWIO', 'HWIO', 'OIHW'])
  sizes = dict(zip(layout, g.shape(name)))
  n, out = sizes['C'], int(g.choice([2, 4, 6]))
  groups = int(g.choice([1, 1, 1, *(k for k in (2, 3, n) if k and n % k == 0)]))
  out = out if out % groups == 0 else out * groups
  shapes = {'H': int(g.choice([1, 2, 3])), 'W': int(g.choice([1, 2])), 'I': n // groups, 'O': out}
  w = g.param([shapes[c] for c in kernel])
  padding = g.choice(['"SAME"', '"VALID"', '[(1, 0), (0, 1)]', '[(0, 0), (1, 1)]'])
  more = g.choice(
    ['', '', ', rhs_dilation=(2, 1)', ', lhs_dilation=(1, 2)', f', batch_group_count={sizes["N"]}']
  )
  if 'batch' in more:
    groups = 1
  stride = g.choice(['(1, 1)', '(1, 1)', '(2, 1)', '(2, 2)'])
  return g.emit(
    f'lax.conv_general_dilated({name}, {w}, {stride}, {padding}, dimension_numbers='
    f'("{layout}", "{kernel}", "{layout}"), feature_group_count={groups}{more})'
  )


def pool(g):
  name = g.pick('f', 2, most=4)
  sh = g.shape(name)
  axes = [i for i, n in enumerate(sh) if g.chance(0.5 if i < len(sh) - 1 else 0.1)]
  window = tuple(2 if i in axes else 1 for i in range(len(sh)))
  stride = tuple(int(g.choice([1, 2])) if i in axes else 1 for i in range(len(sh)))
  padding = g.choice(
    ['"SAME"', '"VALID"', str([(2, 1) if i in axes else (0, 0) for i in range(len(sh))])]
  )
  start, op = g.choice(
    [
      ('0.0', 'lax.add'),
      ('-jnp.inf', 'lax.max'),
      ('jnp.inf', 'lax.min'),
      ('1.0', 'lax.mul'),
      ('-2.0', 'lax.max'),
    ]
  )
  text = f'lax.reduce_window({name}, {start}, {op}, {window}, {stride}, {padding})'
  return g.emit(f'jnp.clip({text}, -4.0, 4.0)' if 'inf' in start else text)


def broadcast_in_dim(g):
  name = g.pick('f', 1, most=3)
  sh = g.shape(name)
  shape = list(sh)
  places = list(range(len(sh)))
  for _ in range(int(g.choice([1, 2]))):
    at = int(g.rng.integers(len(shape) + 1))
    shape.insert(at, int(g.choice([2, 3, *sh])))
    places = [p + (p >= at) for p in places]
  return g.emit(f'lax.broadcast_in_dim({name}, {tuple(shape)}, {tuple(places)})')


def pad(g):
  """By any configuration: negative, inside, zeros or not, a value that is computed."""
  name = g.pick('f', 1)
  config = [
    tuple(
      int(n)
      for n in g.choice(
        [(0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 2, 0), (-1, 0, 0), (1, 1, 1), (0, 0, 1), (2, -1, 0)]
      )
    )
    for _ in g.shape(name)
  ]
  value = g.choice(['0.0', '1.0', f'{g.pick("f")}.sum()', '-jnp.inf'], [4, 2, 2, 0.3])
  text = f'lax.pad({name}, {value}, {config})'
  return g.emit(f'jnp.clip({text}, -2.0, 2.0)' if 'inf' in value else text)


def dynamic(g):
  """Slices and updates that start anywhere: at constants, and at what is computed."""
  name = g.pick('f', 1)
  sh = g.shape(name)
  starts, sizes = [], []
  for n in sh:
    if n > 1 and g.chance(0.5):
      sizes.append(int(g.rng.integers(1, n)))
      starts.append(g.choice([str(int(g.rng.integers(-2, n + 2))), f'{g.pick("i")}.sum()'], [2, 1]))
    else:
      sizes.append(n)
      starts.append('0')
  index = f'({", ".join(starts)},)'
  if g.chance(0.5):
    return g.emit(f'lax.dynamic_slice({name}, {index}, {tuple(sizes)})')
  update = g.choice(
    [
      f'jnp.ones({tuple(sizes)})',
      g.param(sizes),
      f'2 * {name}[{", ".join(f":{n}" for n in sizes)}]',
    ]
  )
  return g.emit(f'lax.dynamic_update_slice({name}, {update}, {index})')


def _index(g, low, high, shape):
  """Indices as text: constants, or made of what is computed."""
  if g.chance(0.7):
    values = g.rng.integers(low, high, shape).tolist()
    return f'np.array({values})' if shape else str(values)
  return f'jnp.broadcast_to({g.pick("i")}.sum() % {max(high, 1)}, {tuple(shape)})'


def fancy(g):
  """NumPy's indexing: lists, masks, new axes and slices mixed, to read or to write."""
  name = g.pick('f', 1)
  sh = g.shape(name)
  count = int(g.choice([2, 3, 1]))
  parts = []
  for n in sh:
    roll = g.rng.random()
    if roll < 0.45 or not n:
      parts.append(':')
    elif roll < 0.6:
      parts.append(g.choice(['::2', '1:', ':-1', '::-1', f'{n - 1}:']))
    elif roll < 0.68:
      parts.append(str(int(g.rng.integers(-n, n))))
    elif roll < 0.75:
      mask = g.rng.random(n) < 0.6
      parts.append(f'np.array({(mask | (np.arange(n) == 0)).tolist()})')
    else:
      parts.append(
        _index(g, -n if g.chance(0.3) else 0, n, g.choice([(count,), (count,), (2, count)]))
      )
    if g.chance(0.07):
      parts.append('None')
  index = ', '.join(parts)
  if g.chance(0.5):
    return g.emit(f'{name}[{index}]')
  if 'None' in index or all(p == ':' for p in parts):
    raise Refused
  change = g.choice(['set', 'add', 'multiply', 'min', 'max', 'set', 'add'])
  value = g.choice(
    ['0.5', '2.0', f'{name}[{index}] * 2', f'{name}.sum()', f'jnp.ones_like({name}[{index}])']
  )
  return g.emit(f'{name}.at[{index}].{change}({value})')


def gather(g):
  """``lax.gather`` with dimension numbers of its own."""
  name = g.pick('f', 1, most=3)
  sh = g.shape(name)
  rank = len(sh)
  indexed = sorted(g.rng.permutation(rank)[: int(g.rng.integers(1, rank + 1))].tolist())
  indexed = [indexed[i] for i in g.rng.permutation(len(indexed))]
  sizes = [int(g.rng.integers(1, n + 1)) if i in indexed and n else n for i, n in enumerate(sh)]
  if g.chance(0.5):
    sizes = [1 if i in indexed else n for i, n in enumerate(sizes)]
  gone = [i for i, n in enumerate(sizes) if n == 1 and g.chance(0.7)]
  batch = g.choice([(), (3,), (2,), (2, 2), (1,), (1, 3)])
  total = len(batch) + rank - len(gone)
  offset = sorted(g.rng.permutation(total)[: rank - len(gone)].tolist())
  high = max(1, min(sh[i] - sizes[i] + 1 for i in indexed))
  low, high = (0, high) if g.chance(0.7) else (-1, high + 2)
  index = _index(g, low, high, (*batch, len(indexed)))
  mode = g.choice(['clip', 'fill', 'promise_in_bounds'], [2, 2, 1 if low == 0 else 0])
  fill = f', fill_value={g.choice(["0.0", "0.5"])}' if mode == 'fill' else ''
  return g.emit(
    f'lax.gather({name}, {_whole(index)}, lax.GatherDimensionNumbers({tuple(offset)},'
    f' {tuple(gone)}, {tuple(indexed)}), {tuple(sizes)}, mode="{mode}"{fill})'
  )


def _whole(index):
  return index.replace('np.array(', 'jnp.asarray(') if index.startswith('np.') else index


def scatter(g):
  """``lax.scatter*`` with dimension numbers of its own."""
  name = g.pick('f', 1, most=3)
  sh = g.shape(name)
  rank = len(sh)
  indexed = g.rng.permutation(rank)[: int(g.rng.integers(1, rank + 1))].tolist()
  sizes = [
    int(g.rng.integers(1, n + 1))
    if i in indexed and n and g.chance(0.4)
    else (1 if i in indexed else n)
    for i, n in enumerate(sh)
  ]
  gone = [i for i, n in enumerate(sizes) if n == 1 and g.chance(0.7)]
  batch = g.choice([(), (), (3,), (2,), (1,)])
  total = len(batch) + rank - len(gone)
  window = sorted(g.rng.permutation(total)[: rank - len(gone)].tolist())
  left = iter([n for i, n in enumerate(sizes) if i not in gone])
  lanes = iter(batch)
  shape = tuple(next(left) if j in window else next(lanes) for j in range(total))
  high = max(1, min(sh[i] - sizes[i] + 1 for i in indexed))
  low, high = (0, high) if g.chance(0.7) else (-1, high + 2)
  index = _index(g, low, high, (*batch, len(indexed)))
  update = g.param(shape) if shape and g.chance(0.5) else f'jnp.full({shape}, 0.7)'
  change = g.choice(
    ['scatter', 'scatter_add', 'scatter_add', 'scatter_mul', 'scatter_min', 'scatter_max']
  )
  mode = g.choice(['clip', 'fill'])
  return g.emit(
    f'lax.{change}({name}, {_whole(index)}, {update}, lax.ScatterDimensionNumbers({tuple(window)},'
    f' {tuple(gone)}, {tuple(indexed)}), mode="{mode}")'
  )


ALL = {
  'reshape': (reshape, 6.0),
  'reshape_and_back': (reshape_and_back, 8.0),
  'einsum': (einsum, 14.0),
  'dot_general': (dot_general, 8.0),
  'conv': (conv, 10.0),
  'pool': (pool, 6.0),
  'broadcast_in_dim': (broadcast_in_dim, 3.0),
  'pad': (pad, 5.0),
  'dynamic': (dynamic, 6.0),
  'fancy': (fancy, 12.0),
  'gather': (gather, 6.0),
  'scatter': (scatter, 6.0),
}
