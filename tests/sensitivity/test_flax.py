"""Runs over variables that hold batch statistics besides what is trained, in linen and in NNX."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jprune
import jprune.nnx
from jprune.sensitivity import curves, run

X = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
Y = np.abs(X[:, :2])


class Linen(nn.Module):
  @nn.compact
  def __call__(self, x, train=False):
    x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(nn.Dense(12)(x))
    return nn.Dense(2)(nn.relu(x))


class Module(nnx.Module):
  def __init__(self, rngs):
    self.hidden = nnx.Linear(6, 12, rngs=rngs)
    self.norm = nnx.BatchNorm(12, momentum=0.5, rngs=rngs)
    self.out = nnx.Linear(12, 2, rngs=rngs)

  def __call__(self, x):
    return self.out(nnx.relu(self.norm(self.hidden(x))))


def linen():
  """The function, its variables, and a step of fine-tuning."""
  model = Linen()
  variables = jax.jit(model.init)(jax.random.key(0), X)

  @jax.jit
  def finetune(variables, masks, index):
    tx = optax.chain(optax.adam(0.1), jprune.keep_pruned(masks['params']))

    def loss_fn(params):
      full = {**variables, 'params': params}
      y, new = model.apply(full, X, train=True, mutable=['batch_stats'])
      return jnp.mean((y - Y) ** 2), new

    params = variables['params']
    grads, new = jax.grad(loss_fn, has_aux=True)(params)
    updates, _ = tx.update(grads, tx.init(params), params)
    return {'params': optax.apply_updates(params, updates), **new}

  return model.apply, variables, finetune


def of_nnx():
  model = Module(nnx.Rngs(0))
  model.eval()
  fn, params = jprune.nnx.functional(model)

  @jax.jit
  def finetune(params, masks, index):
    own = jprune.nnx.merge(model, params)
    own.train()
    tx = optax.chain(optax.adam(0.1), jprune.keep_pruned(nnx.filter_state(masks, nnx.Param)))
    optimizer = nnx.Optimizer(own, tx, wrt=nnx.Param)
    optimizer.update(own, nnx.grad(lambda model: jnp.mean((model(X) - Y) ** 2))(own))
    own.eval()
    return jprune.nnx.functional(own)[1]

  return fn, params, finetune


@pytest.mark.parametrize('make', [linen, of_nnx])
def test_batch_statistics_are_tuned_and_never_pruned(make):
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    fn, params, finetune = make()
    loss = jax.jit(lambda params: -jnp.mean((fn(params, X) - Y) ** 2))
    found = curves(loss, params, [0.0, 0.5])
    result = run(loss, params, sparsity=0.5, rounds=2, finetune=finetune, fn=fn, args=(X,))
  kernels = [curve.name for curve in found.curves]
  assert [path.rsplit('/')[-1] for path in kernels] == ['kernel', 'kernel']
  assert list(result.thresholds) == kernels
  assert [step.reset for step in result.steps] == [0] * 5
  before, after = (dict(zip(*jprune.tree.flatten(tree)[:2])) for tree in (params, result.params))
  moved = {path for path in before if not np.array_equal(before[path], after[path])}
  assert {path.rsplit('/')[-1] for path in moved} >= {'kernel', 'mean', 'var', 'scale'}
  zeros = {path: int(np.sum(np.asarray(after[path]) == 0)) for path in kernels}
  assert list(zeros.values()) == [36, 12]
