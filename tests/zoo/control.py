"""Control flow and transformations: layers in scans, branches, loops, maps, ensembles."""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from jax import lax

from tests.zoo import _case
from tests.zoo._case import DENSE, bare, dense, dense_shapes, linen, registry, vectors

CASES, case = registry()

DEPTH = 3
# Kernels are stacked: [layer, in, out]. A unit of the group is pruned in all layers.
STACKED = (
  ('stem/kernel', 1),
  ('norm/(scale|bias)', 1),
  ('(up|down)/kernel', 1),
  ('(up|down)/kernel', 2),
  ('up/bias', 1),
  ('head/kernel', 0),
)
LAYERS = (*DENSE, ('(up|down)/kernel', 0), ('norm/scale', 0))


# --------------------------------------------------------------------------------- over layers


class Block(nn.Module):
  @nn.compact
  def __call__(self, x, _):
    y = nn.LayerNorm(name='norm')(x)
    y = nn.gelu(nn.Dense(10, name='up')(y))
    return x + nn.Dense(x.shape[-1], name='down')(y), None


def scanned(block):
  stack = nn.scan(block, variable_axes={'params': 0}, split_rngs={'params': True}, length=DEPTH)

  def net(x):
    x = nn.Dense(6, name='stem')(x)
    x, _ = stack(name='layers')(x, None)
    return nn.Dense(5, name='head')(x)

  return linen(net, vectors())


@case(STACKED, LAYERS)
def linen_scan():
  return scanned(Block)


@case(STACKED, LAYERS)
def linen_scan_remat():
  return scanned(nn.remat(Block, prevent_cse=False))


class NnxBlock(nnx.Module):
  def __init__(self, rngs):
    self.norm = nnx.LayerNorm(6, rngs=rngs)
    self.up = nnx.Linear(6, 10, rngs=rngs)
    self.down = nnx.Linear(10, 6, rngs=rngs)

  def __call__(self, x):
    return x + self.down(nnx.gelu(self.up(self.norm(x))))


class NnxStack(nnx.Module):
  def __init__(self, rngs):
    @nnx.split_rngs(splits=DEPTH)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def create(rngs):
      return NnxBlock(rngs)

    self.stem = nnx.Linear(5, 6, rngs=rngs)
    self.layers = create(rngs)
    self.head = nnx.Linear(6, 5, rngs=rngs)

  def __call__(self, x):
    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    @nnx.remat
    def forward(block, x):
      return block(x)

    return self.head(forward(self.layers, self.stem(x)))


@case(STACKED, LAYERS)
def nnx_scan_remat():
  return _case.nnx(NnxStack(nnx.Rngs(0)), vectors())


# ------------------------------------------------------------------------------------ branches


def mlp_shapes(n_in, hidden, n_out):
  return {'up': dense_shapes(n_in, hidden), 'down': dense_shapes(hidden, n_out)}


def mlp(params, x):
  return dense(params['down'], jax.nn.relu(dense(params['up'], x)))


BRANCHES = (
  ('stem/kernel', 1),
  ('/up/kernel', 0),
  ('/up/kernel', 1),
  ('/down/kernel', 0),
  ('/down/kernel', 1),
  ('head/kernel', 0),
)


@case(BRANCHES, DENSE)
def cond():
  def fn(params, x):
    x = dense(params['stem'], x)
    one, other = (functools.partial(mlp, params[name]) for name in ('one', 'other'))
    return dense(params['head'], lax.cond(x.sum() > 0, one, other, x))

  shapes = {
    'stem': dense_shapes(5, 6),
    'one': mlp_shapes(6, 8, 7),
    'other': mlp_shapes(6, 10, 7),
    'head': dense_shapes(7, 4),
  }
  return bare(fn, shapes, vectors())


@case(BRANCHES, DENSE)
def switch():
  def fn(params, x, index):
    x = dense(params['stem'], x)
    branches = [functools.partial(mlp, branch) for branch in params['branches']]
    return dense(params['head'], x + lax.switch(index, branches, x))

  shapes = {
    'stem': dense_shapes(5, 6),
    'branches': [mlp_shapes(6, hidden, 6) for hidden in (8, 10, 4)],
    'head': dense_shapes(6, 4),
  }
  return bare(fn, shapes, vectors(), jnp.int32(1))


# --------------------------------------------------------------------------------------- loops

LOOPED = (
  ('stem/kernel', 1),
  ('layer/kernel', 0),
  ('layer/kernel', 1),
  ('layer/bias', 0),
  ('head/kernel', 0),
)
LOOP_SHAPES = {
  'stem': dense_shapes(5, 8),
  'layer': dense_shapes(8, 8),
  'head': dense_shapes(8, 4),
}


@case(LOOPED, DENSE)
def fori_loop():
  def fn(params, x):
    step = lambda _, x: jnp.tanh(dense(params['layer'], x))
    return dense(params['head'], lax.fori_loop(0, 3, step, dense(params['stem'], x)))

  return bare(fn, LOOP_SHAPES, vectors())


@case(LOOPED, DENSE)
def while_loop():
  def fn(params, x, steps):
    step = lambda state: (state[0] + 1, jnp.tanh(dense(params['layer'], state[1])))
    unfinished = lambda state: state[0] < steps
    start = (jnp.zeros_like(steps), dense(params['stem'], x))
    return dense(params['head'], lax.while_loop(unfinished, step, start)[1])

  return bare(fn, LOOP_SHAPES, vectors(), jnp.int32(3))


@case(BRANCHES, DENSE)
def lax_map():
  def fn(params, x):
    x = jax.nn.relu(dense(params['stem'], x))
    x = lax.map(lambda row: jax.nn.relu(mlp(params['middle'], row[None])[0]), x)
    return dense(params['head'], x)

  shapes = {
    'stem': dense_shapes(5, 6),
    'middle': mlp_shapes(6, 10, 7),
    'head': dense_shapes(7, 4),
  }
  return bare(fn, shapes, vectors())


# ------------------------------------------------------------------------------------- ensemble


# A pruned member answers zero, so the sum over members loses nothing.
@case(
  (
    ('(up|down)/(kernel|bias)', 0),
    ('up/kernel', 2),
    ('up/bias', 1),
    ('down/kernel', 1),
  ),
  (('up/kernel', 1), ('down/kernel', 2), ('down/bias', 1)),
)
def ensemble():
  def fn(params, x):
    return jax.vmap(mlp, in_axes=(0, None))(params, x).mean(0)

  shapes = {
    'up': {'kernel': (3, 5, 8), 'bias': (3, 8)},
    'down': {'kernel': (3, 8, 4), 'bias': (3, 4)},
  }
  return bare(fn, shapes, vectors())


# Members side by side, none of them averaged away.
@case(
  (('up/kernel', 2), ('up/bias', 1), ('down/kernel', 1)),
  (('(up|down)/kernel', 0), ('up/kernel', 1), ('down/kernel', 2)),
)
def ensemble_outputs():
  def fn(params, x):
    return jax.vmap(mlp, in_axes=(0, None))(params, x)

  _, params, args = ensemble()
  return fn, params, args


# -------------------------------------------------------------------------------- differentiated


@case((('stem/kernel', 1), ('second/kernel', 0), ('second/kernel', 1)), (DENSE[0],))
def input_gradient():
  def energy(params, x):
    x = jnp.tanh(dense(params['stem'], x))
    return dense(params['head'], jnp.tanh(dense(params['second'], x))).sum()

  shapes = {
    'stem': dense_shapes(5, 8),
    'second': dense_shapes(8, 6),
    'head': dense_shapes(6, 1),
  }
  return bare(jax.grad(energy, argnums=1), shapes, vectors())
