"""Sparse to sparse in NumPy, from the papers: slow, one matrix at a time, by sorting."""

import numpy as np


def first(scores, count):
  """Mask of the highest scores of a flat array, among equal ones the first."""
  mask = np.zeros(scores.size, bool)
  mask[np.argsort(-scores, kind='stable')[:count]] = True
  return mask


def dropped_and_grown(stays, grows, mask, kept, fraction):
  """Drops all but the best of what is there, and grows the best of what is not.

  Evci et al., 2020, algorithm 1: what was dropped may come back at once.

  Args:
    stays: score by which a weight stays.
    grows: score by which it grows.
    mask: before.
    kept: how many weights there are afterwards.
    fraction: of these, how many are dropped.
  """
  shape = mask.shape
  stays, grows, mask = stays.ravel(), grows.ravel(), mask.ravel()
  drop = int(np.round(np.float32(fraction) * np.float32(kept)))
  stay = first(np.where(mask, stays, -np.inf), kept - drop) & mask
  grow = first(np.where(stay, -np.inf, grows), kept - stay.sum())
  return (stay | grow).reshape(shape)


def constant_fan_in(weights, grads, mask, budget, fraction, gamma, ablates):
  """SRigL for one matrix ``(inputs, neurons)``: Lasby et al., 2023, section 3.

  Args:
    weights: magnitudes.
    grads: magnitudes.
    mask: before; each neuron has the same number of inputs, or none.
    budget: how many weights there may be.
    fraction: of the weights, how many are dropped.
    gamma: the fraction of the fan-in that has to be salient.
    ablates: whether neurons may go.
  """
  inputs, neurons = mask.shape
  alive = [j for j in range(neurons) if mask[:, j].any()]
  there = int(mask.sum())
  fan = there // len(alive)
  drop = min(int(np.round(np.float32(fraction) * np.float32(there))), there)
  stay = first(np.where(mask, weights, -np.inf).ravel(), there - drop).reshape(mask.shape) & mask
  if ablates:
    free = ~mask
    free[:, [j for j in range(neurons) if j not in alive]] = False
    wanted = first(np.where(free, grads, -np.inf).ravel(), drop).reshape(mask.shape) & free
    salient = {j: int((stay | wanted)[:, j].sum()) for j in alive}
    weak = [j for j in alive if salient[j] < max(1, int(np.float32(gamma) * np.float32(fan)))]
    room = len(alive) - min(-(-budget // inputs), len(alive))
    gone = sorted(weak, key=lambda j: (salient[j], j))[:room]
    alive = [j for j in alive if j not in gone]
  fan = min(max(budget // len(alive), 1), inputs)
  out = np.zeros_like(mask)
  for j in alive:
    column = first(np.where(stay[:, j], weights[:, j], -np.inf), fan) & stay[:, j]
    out[:, j] = column | first(np.where(column, -np.inf, grads[:, j]), fan - column.sum())
  return out
