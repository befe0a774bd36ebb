"""How programs begin, and what becomes a result."""

import numpy as np

from tests.programs._fields import CHANNELS


def _dense(g):
  rows, n = int(g.choice([2, 3])), int(g.choice([3, 4, 2]))
  x = g.input((rows, n), kind=g.choice(['normal', 'odd']))
  _extra(g)
  c = g.channels()
  bias = f' + {g.param((c,))}' if g.chance(0.6) else ''
  g.emit(f'{x} @ {g.param((n, c))}{bias}')


def _times(g):
  x = g.input((2, int(g.choice([3, 4])), 3), kind=g.choice(['normal', 'odd']))
  _extra(g)
  c = g.channels()
  g.emit(f'{x} @ {g.param((3, c))}' + (f' + {g.param((c,))}' if g.chance(0.6) else ''))


def _tokens(g):
  t = g.input((2, 3) if g.chance(0.7) else (4,), 'int64', g.choice(['small', 'wild']))
  _extra(g)
  table = g.param((5, g.channels()))
  mode = g.choice(['', '', 'clip', 'wrap'])
  g.emit(f'jnp.take({table}, {t}, axis=0, mode="{mode}")' if mode else f'{table}[{t}]')


def _vector(g):
  """Params alone, without a batch."""
  _extra(g)
  c = g.channels()
  x = g.input((c,), kind='odd') if g.chance(0.5) else g.param((c,))
  g.emit(f'{x} * {g.param((c,))}')
  g.emit(f'{g.param((c, g.channels()))} * {g.choice(["1.5", "-1", x + "[:, None]"])}')


def _columns(g):
  """A column of data times a row of params, as in a Fourier embedding."""
  x = g.input((int(g.choice([3, 4])), 2), kind='odd')
  _extra(g)
  c = g.channels()
  g.emit(f'{x}[:, :1] * {g.param((c,))}')
  g.emit(f'{x}[:, 1:] * {g.param((c,))}')


def _images(g):
  x = g.input(
    (2, int(g.choice([3, 4])), int(g.choice([2, 3])), 3), kind=g.choice(['normal', 'odd'])
  )
  _extra(g)
  w = g.param((2, 2, 3, int(g.choice([4, 6]))))
  g.emit(
    f'lax.conv_general_dilated({x}, {w}, (1, 1), "{g.choice(["SAME", "VALID"])}",'
    ' dimension_numbers=("NHWC", "HWIO", "NHWC"))'
  )


def _extra(g):
  """Inputs and params of other dtypes beside."""
  if g.chance(0.6):
    g.input(g.choice([(3,), (2, 3), (), (4,)]), 'int64', g.choice(['small', 'wild', 'normal']))
  if g.chance(0.2):
    g.input(g.choice([(2,), (3,), ()]), 'bool')
  if g.chance(0.15):
    g.param(
      (g.channels(),), g.choice(['int64', 'bool', 'complex128', 'float32', 'int32', 'bfloat16'])
    )
  if g.chance(0.1):
    g.input((g.channels(),), 'complex128')
  if g.chance(0.2):
    g.input((int(g.choice(CHANNELS)),), kind='odd')


STEMS = [_dense, _dense, _times, _times, _images, _tokens, _vector, _columns]


def end(g, name):
  """What becomes a result: mostly a projection or a sum, which leaves channels free."""
  kind, sh = g.kind(name), g.shape(name)
  if kind == 'key':
    return g.emit(f'jax.random.key_data({name})')[0]
  if kind == 'c' and g.chance(0.8):
    name, kind = (
      g.emit(g.choice(['jnp.abs(X)', 'jnp.real(X)', 'jnp.imag(X)']).replace('X', name))[0],
      'f',
    )
  if not sh or int(np.prod(sh)) == 0:
    return name
  if kind in 'iu' and g.chance(0.3):
    name, kind = g.emit(f'{name}.astype(float)')[0], 'f'
  if kind in 'fc':
    text = g.choice(
      ['X @ W', '(X @ W).mean()', 'X.sum(-1)', 'X.mean(-1)', '(X * V).sum()', 'X.sum()', 'X'],
      [4, 3, 2, 1, 4, 3, 0.4],
    )
    if 'W' in text:
      text = text.replace('W', g.param((sh[-1], 2)))
    if 'V' in text:
      text = text.replace('V', g.param(sh))
    return g.emit(text.replace('X', name))[0] if text != 'X' else name
  text = g.choice(['X.sum(-1)', 'X.sum()', 'X', 'X @ W'], [2, 4, 0.5, 1])
  if 'W' in text:
    text = f'X.astype(float) @ {g.param((sh[-1], 2))}'
  return g.emit(text.replace('X', name))[0] if text != 'X' else name
