"""Repair, slowly, in float64 NumPy: ports of what the papers publish.

Weights are ``(inputs, outputs)`` and ``x`` is ``(rows, inputs)``, as everywhere in jprune; the
published code of SparseGPT has both the other way round.
"""

import numpy as np


def decaying(rng, rows, inputs, power=0.5, scales=0.0):
  """Inputs with correlations: a spectrum that falls as ``k ** -power``, then uneven scales."""
  turn = np.linalg.qr(rng.normal(size=(inputs, inputs)))[0]
  x = rng.normal(size=(rows, inputs)) * np.arange(1, inputs + 1) ** -power
  return (x @ turn) * np.exp(scales * rng.normal(size=inputs))


def relative_error(x, dense, new):
  """``|X (new - dense)|^2 / |X dense|^2``."""
  x, dense, new = (np.asarray(each, np.float64) for each in (x, dense, new))
  return np.sum((x @ (new - dense)) ** 2) / np.sum((x @ dense) ** 2)


def shares(count, sizes):
  """A count over parts, in proportion, rounded down cumulatively."""
  ends = np.cumsum([0, *sizes])
  return np.diff([int(count) * int(end) // int(ends[-1]) for end in ends])


def lowest(scores, count):
  """Mask of the ``count`` lowest; of equal ones the first in flat order stay."""
  order = np.lexsort((-np.arange(scores.size), scores.reshape(-1)))
  mask = np.zeros(scores.size, bool)
  mask[order[:count]] = True
  return mask.reshape(scores.shape)


def sparsegpt(
  w, x, sparsity=None, n_of_m=None, block=128, damping=0.01, per_output=False, alive=None
):
  """Algorithm 1 of arXiv:2301.00774 as published, but for exact counts: ``(weights, mask)``.

  What is not alive goes before all else of its block, which then gives its share of what is alive.
  """
  w, x = np.array(w, np.float64), np.asarray(x, np.float64)
  inputs, outputs = w.shape
  h = 2 / len(x) * x.T @ x
  dead = np.diag(h) == 0
  mean = np.diag(h)[~dead].mean()
  h[dead, dead] = mean
  w[dead] = 0
  h[np.diag_indices(inputs)] += damping * mean
  u = np.linalg.cholesky(np.linalg.inv(h)).T  # H^-1 = U^T U
  starts = range(0, inputs, block)
  heights = [min(block, inputs - start) for start in starts]
  mask = np.zeros(w.shape, bool)  # what goes
  if n_of_m is None:
    counts = shares(round(sparsity * w.size), [n * outputs for n in heights])
    if alive is not None:
      gone = np.array([np.sum(~alive[start : start + block]) for start in starts])
      counts = gone + shares(
        round(sparsity * w.size) - gone.sum(), np.array(heights) * outputs - gone
      )
    if per_output:  # each output the same, or one more
      each = shares(round(sparsity * w.size), [inputs] * outputs)
      counts = np.stack([shares(count, heights) for count in each], axis=1)
  for place, (start, height) in enumerate(zip(starts, heights)):
    own = slice(start, start + height)
    if n_of_m is None:
      scores = w[own] ** 2 / np.diag(u)[own, None] ** 2
      if alive is not None:
        scores = np.where(alive[own], scores, -1)
      if per_output:
        for j in range(outputs):
          mask[own, j] = lowest(scores[:, j], counts[place, j])
      else:
        mask[own] = lowest(scores, counts[place])
    errors = np.zeros((height, outputs))
    for i in range(start, start + height):
      if n_of_m is not None and (i - start) % n_of_m[1] == 0:
        n, m = n_of_m
        scores = w[i : i + m] ** 2 / np.diag(u)[i : i + m, None] ** 2
        if alive is not None:
          scores = np.where(alive[i : i + m], scores, -1)
          mask[i : i + m] = ~alive[i : i + m]
        for j in range(outputs):
          mask[i : i + m, j] |= lowest(scores[:, j], m - n)
      kept = np.where(mask[i], 0, w[i])
      errors[i - start] = (w[i] - kept) / u[i, i]
      w[i + 1 : start + height] -= np.outer(u[i, i + 1 : start + height], errors[i - start])
      w[i] = kept
    w[start + height :] -= u[own, start + height :].T @ errors
  return w, ~mask


def least_squares(w, x, mask):
  """Each output by itself, on the raw inputs: the kept weights that reproduce it best."""
  w, x = np.asarray(w, np.float64), np.asarray(x, np.float64)
  out = np.zeros_like(w)
  for j in range(w.shape[1]):
    kept = np.flatnonzero(mask[:, j])
    out[kept, j] = np.linalg.lstsq(x[:, kept], x @ w[:, j], rcond=None)[0]
  return out


def per_output(scores, flat, sparsity, alive=None):
  """Masks of matrices ``(batch, inputs, outputs)``, whose entries stand at ``flat`` in the leaf.

  One weight after the other goes of the outputs that have lost least, the lowest next one first;
  what is not alive has gone before.
  """
  keep = np.ones(scores.shape, bool) if alive is None else alive.copy()
  queues = {}
  for b, j in np.ndindex(scores.shape[0], scores.shape[2]):
    order = sorted(
      np.flatnonzero(keep[b, :, j]), key=lambda i, b=b, j=j: (scores[b, i, j], -flat[b, i, j])
    )
    queues[b, j] = order
  for _ in range(round(sparsity * scores.size) - np.sum(~keep)):
    most = max(map(len, queues.values()))
    _, _, b, j = min(
      (scores[b, queue[0], j], -flat[b, queue[0], j], b, j)
      for (b, j), queue in queues.items()
      if len(queue) == most
    )
    keep[b, queues[b, j].pop(0), j] = False
  return keep
