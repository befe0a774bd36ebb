"""All methods of sparse training with small settings, and how many weights each of them keeps."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jprune import distributions, schedules, transforms

EVERY, STEPS = 3, 12
KEY = jax.random.key(3)
RISING = schedules.cubic(0.25, 0.75, begin=2, end=7)
EVENLY = {'distribution': distributions.uniform}


def params(dtype: jnp.dtype = jnp.float32) -> dict:
  keys = jax.random.split(jax.random.key(0), 2)
  return {
    'a': {
      'kernel': jax.random.normal(keys[0], (8, 16), dtype),
      'bias': jnp.linspace(-1.0, 1.0, 16, dtype=dtype),
    },
    'b': {'kernel': jax.random.normal(keys[1], (16, 8), dtype)},
  }


class Case(NamedTuple):
  """A method.

  Attributes:
    make: from an optimizer, the method around it.
    sparsity: the one in force after the call with some count, from ``-1`` (none yet) on; ``None``
      if training finds it.
  """

  make: Callable[[optax.GradientTransformation], optax.GradientTransformationExtraArgs]
  sparsity: Callable[[int], float] | None


def _rising(count: int) -> float:
  changes = [0, 3, 6, 7, 9]
  return float(RISING(max((change for change in changes if change <= count), default=0)))


always = lambda sparsity: lambda count: sparsity
once = lambda sparsity, begin=0: lambda count: sparsity if count >= begin else 0.0
from_the_first = lambda count: _rising(count) if count >= 0 else 0.0


def _case(name: str, sparsity, rule, **settings) -> Case:
  method = functools.partial(getattr(transforms, name), **settings)
  make = method if sparsity is None else lambda inner: method(inner, sparsity)
  return Case(make, rule)


def _at_random(name: str, sparsity, rule, **settings) -> Case:
  return _case(name, sparsity, rule, every=EVERY, key=KEY, **EVENLY, **settings)


METHODS = {
  'gradual': _case('gradual', RISING, from_the_first, every=EVERY),
  'movement': _case('movement', RISING, from_the_first, every=EVERY),
  'soft_movement': _case('soft_movement', None, None, every=EVERY, pull=0.1),
  'straight_through': _case('straight_through', 0.75, once(0.75), every=EVERY),
  'sr_ste': _case('sr_ste', None, once(0.5), every=EVERY),
  's_ste': _case('s_ste', None, once(0.5), every=EVERY),
  'ac_dc': _case(
    'ac_dc',
    0.75,
    lambda count: 0.75 if 3 <= count < 6 or count >= 9 else 0.0,
    every=EVERY,
    begin=3,
    end=9,
  ),
  'admm': _case('admm', 0.75, once(0.75, 7), every=EVERY, end=7),
  'static': _case('static', 0.75, always(0.75), key=KEY, **EVENLY),
  'sparse_evolution': _at_random('sparse_evolution', 0.75, always(0.75)),
  'rigl': _at_random('rigl', 0.75, always(0.75), packed=True),
  'granet': _at_random('granet', RISING, _rising),
  'mest': _at_random('mest', 0.75, always(0.75)),
  'srigl': _at_random('srigl', 0.75, always(0.75)),
}
# what takes no part in the table: no optimizer around which something prunes
OTHERS = {
  'check', 'keep_pruned', 'mask_updates', 'masks_of', 'metrics', 'sparse_training',
  'group_lasso', 'batch_norm_scale', 'growing',
}  # fmt: skip
