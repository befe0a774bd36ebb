"""What the fields of a template stand for: values, sizes, constants, indices."""

import re

import numpy as np

from tests.programs._program import Leaf

FIELD = re.compile(r'\$([a-z]+)(\d?)(?:\(([^$]*?)\)\$)?')
CHANNELS, OTHERS = (4, 6, 8, 3, 2), (2, 3, 1)


class Refused(Exception):
  """A line that can't be made here: nothing fits, or it is no valid call."""


class Fields:
  """What the fields of one template stand for; the same field is the same value."""

  def __init__(self, generator):
    self.g = generator
    self.known = {}
    self.x = None

  def __call__(self, field, digit, inside):
    key = (field, digit) if field == 'x' else (field, digit, inside)
    fresh = field in ('s', 'w', 'k', 'm')
    if fresh or key not in self.known:
      self.known[key] = str(getattr(self, f'_{field}')(digit, inside))
    return self.known[key]

  def _of(self, inside):
    """A Python expression over sizes of the value at hand."""
    sh = self.g.shape(self.x) if self.x else ()
    space = {'sh': sh, 'n': sh[-1] if sh else 1, 'c': self._chosen(), 'np_prod': np.prod}
    space['na'] = sh[self.known_axis] if sh and hasattr(self, 'known_axis') else 1
    return eval(inside, space)

  def _chosen(self):
    if not hasattr(self, 'width'):
      self.width = self.g.channels()
    return self.width

  # values
  def _x(self, rank, inside):
    fits = (lambda sh: bool(eval(inside, {'sh': sh, 'n': sh[-1] if sh else 1}))) if inside else None
    self.x = self.g.pick('f', int(rank or 0), fits)
    return self.x

  def _i(self, rank, inside):
    texts = ['jnp.argmax(X, 0)', '(3 * X).astype(int)', '(X > 0).astype(int)']
    fits = (lambda sh: bool(eval(inside, {'sh': sh}))) if inside else None
    name = self._some('iu', int(rank or 0), texts, fits)
    self.x = self.x or name
    return name

  def _b(self, rank, inside):
    name = self._some('b', int(rank or 0), ['X > 0', 'X >= 0', 'X < 0.5'])
    self.x = self.x or name
    return name

  def _some(self, kinds, rank, texts, fits=None):
    """A value of an unusual dtype; made of another one where there is none."""
    try:
      return self.g.pick(kinds, rank, fits)
    except Refused:
      text = self.g.choice(texts).replace('X', self.g.pick('f', max(rank, 1)))
      return self.g.emit(text)[0]

  def _z(self, rank, inside):
    texts = ['X * 1j', 'lax.complex(X, X)', 'jnp.exp(1j * X)', 'X * (1 - 0.5j)', 'X + 0j']
    self.x = self._some('c', int(rank or 0), texts)
    return self.x

  def _any(self, rank, inside):
    self.x = self.g.pick('fiubc', int(rank or 0))
    return self.x

  def _y(self, rank, inside):
    """Another value that broadcasts with the one at hand; or one made for it."""
    sh, g = self.g.shape(self.x), self.g
    if g.chance(0.6):
      try:
        return g.pick('f', 0, lambda other: _broadcasts(sh, other))
      except Refused:
        pass
    roll = g.rng.random()
    if roll < 0.15:
      return self._d('', '')
    if roll < 0.5:
      return g.param(sh[int(g.rng.integers(len(sh) + 1)) :])
    if roll < 0.75:
      return self._k('', 'sh')
    return self._s('', '')

  def _d(self, rank, inside):
    """Data, zeros among them, that broadcast with the value at hand."""
    sh, g = self.g.shape(self.x), self.g
    shape = g.choice([sh, (*sh[:-1], 1), sh[-1:], ()]) if sh else ()
    same = [n for n, leaf in g.inputs.items() if leaf == Leaf(shape, 'float64', 'odd')]
    return g.choice(same) if same else g.input(shape, kind='odd')

  def _like(self, rank, inside):
    sh = self.g.shape(self.x)
    if self.g.chance(0.7):
      return self.g.pick('f', 0, lambda other: other == sh)
    return self.g.param(sh)

  def _w(self, rank, inside):
    return self.g.param(self._of(f'({inside},)' if inside else '()'))

  def _k(self, rank, inside):
    """A constant array."""
    shape = self._of(f'tuple({inside})' if inside == 'sh' else f'({inside},)')
    size = int(np.prod(shape))
    if size > 64:
      raise Refused
    roll = self.g.rng.random()
    if roll < 0.3:
      return f'jnp.full({shape}, {self._s("", "")})'
    if roll < 0.5:
      return f'np.linspace(-1, 2, {size}).reshape({shape})'
    if roll < 0.6:
      return f'jnp.arange({size}.0).reshape({shape})'
    if roll < 0.7:
      return f'jnp.zeros({shape})'
    values = np.round(self.g.rng.standard_normal(size), 1).tolist()
    return f'np.array({values}).reshape({shape})'

  def _s(self, rank, inside):
    """A number."""
    return self.g.choice([0.5, 2.0, -1.0, 1.0, 0.0, -0.0, 0.1, 3.0, -0.3, 1.5])

  # places
  def _ax(self, rank, inside):
    """An axis of the value at hand; ``$ax1``: rather not one of channels."""
    sh = self.g.shape(self.x)
    axes = list(range(len(sh)))
    few = [axis for axis in axes if sh[axis] in OTHERS]
    axis = self.g.choice(few if rank and few and self.g.chance(0.8) else axes)
    self.known_axis = axis
    return axis - len(sh) if self.g.chance(0.3) else axis

  def _axes(self, rank, inside):
    sh = self.g.shape(self.x)
    count = int(self.g.rng.integers(1, len(sh) + 1))
    return tuple(sorted(int(i) for i in self.g.rng.permutation(len(sh))[:count]))

  def _perm(self, rank, inside):
    return tuple(int(i) for i in self.g.rng.permutation(len(self.g.shape(self.x))))

  def _m(self, rank, inside):
    """A whole number from an expression ``low, high``; high is excluded."""
    low, high = self._of(inside)
    return int(self.g.rng.integers(low, max(high, low + 1)))

  def _e(self, rank, inside):
    """What an expression gives."""
    return self._of(inside)

  def _c(self, rank, inside):
    return self._chosen()

  def _one(self, rank, inside):
    """One of several words."""
    return self.g.choice(inside.split('|'))

  def _ints(self, rank, inside):
    """Constant indices: ``$ints(size, count)$``; ``$ints1``: some of them outside."""
    size, count = self._of(inside)
    low, high = (
      (-size - 2, size + 3) if rank else (-size, size) if self.g.chance(0.3) else (0, size)
    )
    if not rank and self.g.chance(0.4) and count <= size:
      return self.g.rng.permutation(size)[:count].tolist()
    return self.g.rng.integers(low, high, count).tolist()

  def _perms(self, rank, inside):
    """A constant permutation of so many."""
    return self.g.rng.permutation(self._of(inside)).tolist()


def _broadcasts(a, b):
  return len(b) <= len(a) and all(y in (1, x) for x, y in zip(a[::-1], b[::-1]))
