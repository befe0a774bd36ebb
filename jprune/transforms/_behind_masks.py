"""Dense weights live on behind the masks, and come back when they have grown."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jprune.transforms._method import ByPath, Method, each, single
from jprune.transforms._sparse_training import sparse_training


def straight_through(inner, sparsity, *, every=1, decay=0.0, **settings):
  """ST."""
  change = lambda step: (step.best(step.scores()), step.memory)
  pulled = lambda step: each(
    lambda g, w, mask: g + decay * jnp.where(mask, 0, single(w)),
    step.grads,
    step.weights,
    step.masks,
  )
  method = Method(
    'straight_through', change, dense=True, regrows=True, gradient=pulled if decay else None
  )
  return sparse_training(method, inner, sparsity, every=every, **settings)


class Movements(NamedTuple):
  """scores"""

  scores: ByPath


def movement(inner, sparsity, *, every, **settings):
  """Movement."""
  method = Method(
    'movement',
    lambda step: (step.best(step.memory.scores), step.memory),
    remember=lambda weights: Movements(each(lambda w: jnp.zeros_like(single(w)), weights)),
    observe=lambda step: Movements(
      each(lambda s, w, g: s - single(w) * g, step.memory.scores, step.weights, step.grads)
    ),
    dense=True,
    regrows=True,
  )
  return sparse_training(method, inner, sparsity, every=every, **settings)


def ac_dc(inner, sparsity, *, every, begin, end, **settings):
  """AC/DC."""

  def schedule(count):
    phase = (count - begin) // every
    dense = (count < begin) | ((phase % 2 == 1) & (count < end))
    return 0.0 if dense else sparsity

  schedule.begin, schedule.end = begin, end
  method = Method('ac_dc', lambda step: (step.best(step.scores()), step.memory), regrows=True)
  return sparse_training(method, inner, schedule, every=every, **settings)
