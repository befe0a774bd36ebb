"""Functions inside of functions: calls, rules, derivatives, loops, choices."""

import jax

from tests.programs._fields import Refused

_DEEPEST = 2
CONTROL = {}


def control(weight=1.0):
  """Adds an entry."""

  def add(fn):
    CONTROL[fn.__name__] = fn, weight
    return fn

  return add


def inner(g):
  """The table for bodies."""
  if g.depth >= _DEEPEST:
    raise Refused
  return g.choice(g.tables.bodies, (0.5, 0.3, 0.2))


def steps(g):
  return int(g.rng.integers(1, 4))


def struct(shape, dtype):
  return jax.ShapeDtypeStruct(tuple(shape), dtype)


def of(g, name):
  return g.structs[name]


# --------------------------------------------------------------------------------------- calls


def _wrapped(g, wrap):
  names = [g.pick('f') for _ in range(int(g.rng.integers(1, 3)))]
  body = g.body([of(g, n) for n in names], steps(g), inner(g))
  return g.emit(wrap.replace('F', body.name) + f'({", ".join(names)})', [body])


@control(2)
def called(g):
  return _wrapped(
    g,
    g.choice(
      [
        'jax.jit(F)',
        'jax.checkpoint(F)',
        'jax.checkpoint(F, policy=jax.checkpoint_policies.dots_saveable)',
        'jax.checkpoint(jax.jit(F))',
        'jax.jit(F, inline=True)',
        'jax.named_call(F, name="part")',
      ]
    ),
  )


@control(2)
def custom_jvp(g):
  """The rule is another body: it has nothing to do with the function."""
  name = g.pick('f')
  body = g.body([of(g, name)], steps(g), inner(g))
  made = g.emit(f'{body.name}({name})', [body])
  if len(made) != 1 or g.kind(made[0]) != 'f':
    raise Refused
  out = of(g, made[0])
  g.lines.pop()
  g.scopes[-1].pop()
  rule = g.choice(
    [
      f'(F(p[0]), jnp.broadcast_to(t[0].sum(), {out.shape}).astype(jnp.{out.dtype}))',
      '(F(p[0]), 2 * jax.jvp(B, p, t)[1])',
      '(F(p[0]), 2 * F(p[0]) * jax.jvp(B, p, t)[1])',
      '(jnp.sin(F(p[0])), jax.jvp(B, p, t)[1] + 0.1 * t[0].sum())',
    ]
  ).replace('B', body.name)
  text = f'lib.with_jvp({body.name}, lambda F, p, t: {rule})({name})'
  return g.emit(text, [body])


@control(2)
def custom_vjp(g):
  name = g.pick('f')
  x = of(g, name)
  body = g.body([x], steps(g), inner(g))
  kept = g.choice(['p', 'jnp.exp(p)', 'p.mean()', 'B(p)', 'jnp.cos(p)'])
  back = g.choice(
    [
      f'jnp.broadcast_to(ct.sum(), {x.shape})',
      f'jnp.broadcast_to(ct.sum() + r.sum(), {x.shape})',
      f'jnp.broadcast_to((ct * r).sum(), {x.shape})',
      f'jnp.ones({x.shape}) * ct.mean()',
    ]
  )
  if g.chance(0.5):
    kept, back = (
      'jax.vjp(B, p)[1]',
      g.choice(['3 * r(ct)[0]', 'r(ct)[0] + 0.2', 'r(jnp.sin(ct))[0]']),
    )
  back = f'lambda r, ct: (({back}).astype(jnp.{x.dtype}),)'
  text = f'lib.with_vjp(B, lambda F, p: (F(p), {kept}), {back})({name})'
  text = text.replace('B', body.name)
  return g.emit(text, [body])


@control(2)
def derivative(g):
  """A derivative inside of the function."""
  name = g.pick('f')
  x = of(g, name)
  body = g.body([x], steps(g), inner(g))
  other = g.param(x.shape) if g.chance(0.5) else f'jnp.cos({name})'
  text = g.choice(
    [
      'jax.grad(lambda t: jnp.sum(B(t)))(X)',
      'jax.grad(lambda t: jnp.sum(jnp.sin(B(t))))(X)',
      'jax.value_and_grad(lambda t: jnp.sum(B(t) ** 2))(X)',
      'jax.jvp(B, (X,), (O,))',
      'jax.vjp(B, X)[1](jnp.ones_like(B(X)))[0]',
      'jax.vjp(B, X)[1](jnp.sin(B(X)))[0]',
      'jax.linearize(B, X)[1](O)',
      'jax.jvp(jax.grad(lambda t: jnp.sum(B(t))), (X,), (O,))[1]',
      'jax.grad(lambda t: jnp.sum(jax.checkpoint(B)(t)))(X)',
      'jax.jacrev(lambda t: jnp.sum(B(t), 0))(X)',
      'jax.jacfwd(lambda t: jnp.sum(B(t)))(X)',
    ]
  )
  return g.emit(text.replace('B', body.name).replace('X', name).replace('O', other), [body])


# --------------------------------------------------------------------------------------- loops


def _carry(g, count=2):
  """Start values: what is there, zeros, params."""
  out = []
  for _ in range(int(g.rng.integers(1, count + 1))):
    name = g.pick('f', most=3)
    if g.chance(0.3):
      x = of(g, name)
      name = (
        g.emit(f'jnp.zeros({x.shape}, jnp.{x.dtype}) * {name}.sum()')[0] if g.chance(0.3) else name
      )
    out.append(name)
  return out


def _tupled(names):
  return f'({", ".join(names)},)'


def _spread(body):
  """A body over one tuple."""
  return f'lambda c: {body.name}(*c)'


@control(3)
def scan(g):
  carry = _carry(g)
  length, scanned = int(g.choice([2, 3, 0, 1], [4, 4, 1, 1])), []
  if g.chance(0.7):
    scanned = [g.pick('fi', 1, most=3)]
    length = g.shape(scanned[0])[0]
    if g.chance(0.4) and length:
      scanned.append(g.param((length, *g.shape(carry[0])[-1:], *g.shape(carry[0])[-1:])))
  slices = [struct(g.shape(n)[1:], g.dtype(n)) for n in scanned]
  wanted = [of(g, n) for n in carry]
  inside = g.body([*wanted, *slices], steps(g), inner(g), wanted)
  over = f'tuple({_tupled(scanned)})' if scanned else 'None'
  call = f'{inside.name}(*c, *x)' if scanned else f'{inside.name}(*c)'
  ys = g.choice(['None', 'c[0]', 'f[0]', '(f[0].sum(), c)'])
  options = g.choice(['', ', reverse=True', ', unroll=2'])
  text = (
    f'lax.scan(lambda c, x: (lambda f: (f, {ys}))({call}), {_tupled(carry)}, {over},'
    f' length={length}{options})'
  )
  return g.emit(f'jax.tree.leaves({text})', [inside])


@control(1)
def mapped(g):
  name = g.pick('f', 1)
  body = g.body([struct(g.shape(name)[1:], g.dtype(name))], steps(g), inner(g))
  size = g.choice(['', ', batch_size=2'])
  return g.emit(f'lax.map({body.name}, {name}{size})', [body])


@control(2)
def fori(g):
  carry = _carry(g)
  wanted = [of(g, n) for n in carry]
  body = g.body([struct((), 'int64'), *wanted], steps(g), inner(g), wanted)
  upper = g.choice(['2', '3', '0', '1', 'N'])
  if 'N' in upper:
    upper = f'jnp.clip({g.pick("i")}.sum(), 0, 3)'
  turn = f'lambda i, c: {body.name}(jnp.asarray(i, int), *c)'
  return g.emit(f'lax.fori_loop(0, {upper}, {turn}, {_tupled(carry)})', [body])


@control(2)
def while_loop(g):
  """While something computed is small, at most three times."""
  carry = _carry(g)
  wanted = [of(g, n) for n in carry]
  body = g.body(wanted, steps(g), inner(g), wanted)
  test = g.choice(['jnp.sum(c[1][0]) < 5', 'jnp.max(c[1][0]) < 2', 'True', 'jnp.any(c[1][-1] > 0)'])
  most = g.choice(['3', '0', '1'], [3, 1, 1])
  return g.emit(
    f'lax.while_loop(lambda c: (c[0] < {most}) & ({test}),'
    f' lambda c: (c[0] + 1, {body.name}(*c[1])), (0, {_tupled(carry)}))[1]',
    [body],
  )


# -------------------------------------------------------------------------------------- choices


@control(3)
def cond(g):
  name = g.pick('f')
  x = of(g, name)
  first = g.body([x], steps(g), inner(g))
  made = g.emit(f'{first.name}({name})', [first])
  if len(made) != 1:
    raise Refused
  wanted = [of(g, made[0])]
  g.lines.pop()
  g.scopes[-1].pop()
  tuples = first._replace(result=f'({first.result},)')
  rest = [g.body([x], steps(g), inner(g), wanted) for _ in range(int(g.choice([1, 1, 2])))]
  bodies = [tuples, *rest]
  if len(bodies) == 2:
    pred = g.choice([f'{name}.sum() > 0', f'{name}.mean() > -9.0', 'N.sum() > 2', 'jnp.any(N > 5)'])
    if 'N' in pred:
      pred = pred.replace('N', g.pick('if'))
    return g.emit(f'lax.cond({pred}, {bodies[0].name}, {bodies[1].name}, {name})', bodies)
  index = g.choice(
    [f'{g.pick("i")}.sum()', f'jnp.argmax({g.pick("f", 1)})', f'({name}.sum() > 0).astype(int)']
  )
  return g.emit(f'lax.switch({index}, [{", ".join(b.name for b in bodies)}], {name})', bodies)
