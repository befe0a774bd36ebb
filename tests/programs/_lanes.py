"""Functions over lanes: ``vmap``, its indices and its collectives."""

from tests.programs._control import control, inner, steps, struct
from tests.programs._fields import Refused


@control(5)
def vmapped(g):
  """Over several values, each along an axis of its own or along none; perhaps twice."""
  first = g.pick('fi', 1)
  size = g.shape(first)[int(g.rng.integers(len(g.shape(first))))]
  names, axes = [], []
  for _ in range(int(g.rng.integers(1, 4))):
    name = first if not names else g.pick('fib')
    sh = g.shape(name)
    fitting = [i for i, n in enumerate(sh) if n == size]
    names.append(name)
    axes.append(g.choice(fitting) if fitting and (name == first or g.chance(0.7)) else None)
  if axes[0] is None:
    raise Refused
  inside = [
    struct([n for i, n in enumerate(g.shape(name)) if i != axis], g.dtype(name))
    for name, axis in zip(names, axes)
  ]
  body = g.body(inside, steps(g), inner(g))
  out_axes = g.choice([0, 0, -1, 1])
  wrap = g.choice(['jax.vmap(F, A, O)', 'jax.vmap(jax.jit(F), A, O)', 'jax.jit(jax.vmap(F, A, O))'])
  text = wrap.replace('F', body.name).replace('A', str(tuple(axes))).replace('O', str(out_axes))
  return g.emit(f'{text}({", ".join(names)})', [body])


@control(5)
def vmapped_indices(g):
  """Rows of constant or computed indices, each of which reads or writes."""
  name = g.pick('f', 1)
  sh = g.shape(name)
  axis = int(g.rng.integers(len(sh)))
  n = sh[axis]
  if not n:
    raise Refused
  lanes = int(g.choice([1, 2, 3]))
  low, high = g.choice([(0, n), (-n, n), (-n - 1, n + 2)], [4, 1, 1])
  rows = g.rng.integers(low, high, (lanes, int(g.choice([2, n, 1])))).tolist()
  index = f'np.array({rows})' if g.chance(0.75) else g.pick('i', 1)
  mode = g.choice(['', ', mode="clip"', ', mode="wrap"', ', mode="fill"'])
  body = g.choice(
    [
      f'lambda t: jnp.take({name}, t, axis={axis}{mode})',
      f'lambda t: jnp.take({name}, t, axis={axis})',
      f'lambda t: jnp.take(jnp.take({name}, t, axis={axis}), t % 2, axis=0)',
      f'lambda t: {name}.at[{":, " * axis}t].add(1.0)',
      f'lambda t: {name}.at[{":, " * axis}t].multiply(0.5).sum({axis})',
      f'lambda t: {name}[{":, " * axis}t[0]]',
      f'lambda t: lax.dynamic_slice_in_dim({name}, t[0], 1, {axis})',
      f'lambda t: lax.dynamic_update_index_in_dim({name}, 0.0, t[0], {axis})',
      f'lambda t: jnp.take({name}, t, axis={axis}{mode}).sum({axis})',
    ]
  )
  after = g.choice(['', '[0]', '.sum(0)', '.swapaxes(0, -1)'])
  out = g.choice([0, 0, 1, -1])
  return g.emit(f'jax.vmap({body}, out_axes={out})({index}){after}')


@control(2)
def zipped_indices(g):
  """Values and indices along the same lanes: batched gathers and scatters."""
  name = g.pick('f', 2)
  lanes, n = g.shape(name)[0], g.shape(name)[1]
  if not n or lanes > 6:
    raise Refused
  rows = g.rng.integers(0, n, (lanes, int(g.choice([2, n])))).tolist()
  index = f'np.array({rows})'
  body = g.choice(
    [
      'lambda v, t: v[t]',
      'lambda v, t: jnp.take(v, t, axis=0, mode="fill", fill_value=0.5)',
      'lambda v, t: v[t[0]]',
      'lambda v, t: v.at[t].set(0.5)',
      'lambda v, t: v.at[t].add(v[t])',
      'lambda v, t: lax.dynamic_slice_in_dim(v, t[0], 1, 0)',
      'lambda v, t: lax.dynamic_update_slice_in_dim(v, v[:1], t[0], 0)',
    ]
  )
  return g.emit(f'jax.vmap({body})({name}, {index})')


@control(1)
def collective(g):
  """Along an axis that vmap names."""
  name = g.pick('f', 1)
  axis = int(g.rng.integers(len(g.shape(name))))
  size = g.shape(name)[axis]
  body = g.choice(
    [
      'lambda t: t - lax.pmean(t, "i")',
      'lambda t: t / (1 + lax.psum(t * t, "i"))',
      'lambda t: t - lax.pmax(t, "i")',
      'lambda t: lax.pmin(t, "i") + t',
      'lambda t: lax.all_gather(t, "i").sum() * t',
      f'lambda t: lax.ppermute(t, "i", [(j, (j + 1) % {size}) for j in range({size})])',
      'lambda t: t * lax.axis_index("i")',
      'lambda t: lax.psum(1, "i") * t',
      'lambda t: t + lax.pmean(jnp.exp(t), "i")',
      'lambda t: lax.all_gather(t, "i")',
    ]
  )
  return g.emit(f'jax.vmap({body}, {axis}, {g.choice([0, axis])}, axis_name="i")({name})')
