"""Parts of networks that need several lines, states among them."""

from tests.programs._control import struct
from tests.programs._fields import Refused
from tests.programs._program import Leaf


def running(g):
  """BatchNorm that also returns what it has counted."""
  name = g.pick('f', 2, fits=lambda sh: 3 <= sh[-1] <= 12, most=4)
  if g.depth or g.states:
    raise Refused
  n, axes = g.shape(name)[-1], tuple(range(len(g.shape(name)) - 1))
  mean, var = g.new('w'), g.new('w')
  for each, kind in ((mean, 'normal'), (var, 'positive')):
    g.params[each] = Leaf((n,), 'float64', kind)
    g.structs[each] = struct((n,), 'float64')
    g.scopes[0].append(each)
  now = g.emit(f'{name}.mean({axes})')[0], g.emit(f'{name}.var({axes})')[0]
  for each, new in zip((mean, var), now):
    g.states[each] = g.emit(f'0.9 * {each} + 0.1 * {new}')[0]
  used = now if g.chance(0.5) else (mean, var)
  out = g.emit(f'({name} - {used[0]}) * lax.rsqrt({used[1]} + 1e-2)')[0]
  return g.emit(f'{out} * {g.param((n,))} + {g.param((n,))}')


def updated(g):
  """A param's new value."""
  if g.depth or len(g.states) > 1:
    raise Refused
  names = [
    n
    for n, leaf in g.params.items()
    if leaf.dtype == 'float64' and leaf.shape and n not in g.states
  ]
  name = g.choice(names)
  template = g.choice(
    [
      '0.9 * W + 0.1 * jnp.tanh(W)',
      'W - 0.1 * jax.grad(lambda t: jnp.sum(jnp.sin(t) * t))(W)',
      'W * lax.rsqrt(1 + jnp.square(W).sum(-1, keepdims=True))',
      'jnp.where(W > 0, W, 0.5 * W + 1)',
      'W + 1.0',
      'W.astype(jnp.float32).astype(jnp.float64)',
      'W - W.mean(0)',
    ]
  )
  g.states[name] = g.emit(template.replace('W', name))[0]
  return (g.states[name],)


def recurrent(g):
  """A cell over time with weights that several steps use."""
  name = g.pick('f', 3, fits=lambda sh: len(sh) == 3)
  n, c = g.shape(name)[-1], g.channels()
  a, b = g.param((n, c)), g.param((c, c))
  update = g.choice(
    [
      'jnp.tanh(x @ A + c @ B)',
      'c + jax.nn.sigmoid(x @ A) * (jnp.tanh(c @ B) - c)',
      '0.5 * c + x @ A',
    ]
  )
  cell = update.replace('A', a).replace('B', b)
  return g.emit(
    f'jnp.swapaxes(lax.scan(lambda c, x: (lambda c: (c, c))({cell}),'
    f' jnp.zeros(({g.shape(name)[0]}, {c})), jnp.swapaxes({name}, 0, 1))[1], 0, 1)'
  )


def stacked(g):
  """Layers whose weights are stacked, in a scan."""
  name = g.pick('f', 1, fits=lambda sh: sh[-1] <= 8)
  n, c = g.shape(name)[-1], int(g.choice([3, 4]))
  first, second = g.param((2, n, c)), g.param((2, c, n))
  turn = 'lambda h, w: (h + jnp.tanh(h @ w[0]) @ w[1], h.mean())'
  return g.emit(f'lax.scan({turn}, {name}, ({first}, {second}))[0]')


def experts(g):
  """A mixture: a gate over expert networks that are batched."""
  name = g.pick('f', 1)
  n, c = g.shape(name)[-1], g.channels()
  gate, up = g.param((n, 3)), g.param((3, n, c))
  top = g.emit(f'jax.nn.softmax({name} @ {gate})')[0]
  each = g.emit(f'jax.nn.relu(jnp.einsum("...n,enc->...ec", {name}, {up}))')[0]
  return g.emit(f'jnp.einsum("...e,...ec->...c", {top}, {each})')


ALL = {
  'running': (running, 3.0),
  'updated': (updated, 2.0),
  'recurrent': (recurrent, 2.0),
  'stacked': (stacked, 2.0),
  'experts': (experts, 2.0),
}
