"""Slow oracles for scores from statistics: float64, from the data themselves, no closed forms.

``x`` are the rows of inputs, ``(rows, inputs)``; ``w`` is the kernel, ``(inputs, outputs)``.
"""

import numpy as np


def wanda(x, w):
  """Sun et al. 2024: size times norm of the input."""
  x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
  out = np.zeros_like(w)
  for i, j in np.ndindex(w.shape):
    out[i, j] = abs(w[i, j]) * np.linalg.norm(x[:, i])
  return out


def ria(x, w, a):
  """Zhang et al. 2024: relative importance and activations."""
  x, w = np.asarray(x, np.float64), np.abs(np.asarray(w, np.float64))
  out = np.zeros_like(w)
  for i, j in np.ndindex(w.shape):
    shares = [w[i, j] / total for total in (w[:, j].sum(), w[i].sum()) if total]
    out[i, j] = sum(shares) * np.linalg.norm(x[:, i]) ** a
  return out


def obs(x, w, damping):
  """What fitting all other weights anew leaves of the output, by least squares for each weight.

  Damping is a ridge that pulls the weights to where they were.
  """
  x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
  rows, inputs = x.shape
  ridge = damping * np.mean(x**2)  # the mean of the diagonal of the Gram matrix
  design = np.concatenate([x / np.sqrt(rows), np.sqrt(ridge) * np.eye(inputs)])
  out = np.zeros_like(w)
  for i, j in np.ndindex(w.shape):
    others = [k for k in range(inputs) if k != i]
    target = design @ w[:, j]
    fitted, *_ = np.linalg.lstsq(design[:, others], target, rcond=None)
    out[i, j] = np.sum((design[:, others] @ fitted - target) ** 2)
  return out


def correlation(x, w):
  """NumPy's own, between one term of the output and the output; 0 where either is constant."""
  x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
  out = np.zeros_like(w)
  for i, j in np.ndindex(w.shape):
    term, output = w[i, j] * x[:, i], x @ w[:, j]
    if np.ptp(term) > 0 and np.ptp(output) > 0:
      out[i, j] = abs(np.corrcoef(term, output)[0, 1])
  return out


def picked_first(x, tolerance=1e-10):
  """Greedy order of columns and what is left of each when it is picked, by least squares.

  Next comes the column with the largest mean squared residual after regression on those picked.
  """
  return picked_first_of_blocks(x, np.arange(x.shape[1]), tolerance)


def picked_first_of_blocks(x, blocks, tolerance=1e-10):
  """The same for groups of columns, ``blocks`` says which group each is of: sums of residuals."""
  x = np.asarray(x, np.float64)
  order, values = [], []
  for _ in range(blocks.max() + 1):
    picked = np.isin(blocks, order)
    fitted, *_ = np.linalg.lstsq(x[:, picked], x, rcond=None)
    left = np.mean((x - x[:, picked] @ fitted) ** 2, axis=0)
    left[left <= tolerance * np.mean(x**2, axis=0)] = 0
    sums = np.bincount(blocks, left)
    sums[order] = -1
    order.append(int(np.argmax(sums)))
    values.append(sums[order[-1]])
  return order, np.array(values)


def owl(layers, sparsity, m, lam):
  """Yin et al. 2024 as in the authors' code, for layers of one size: the sparsity of each."""
  ratios = []
  for scores in layers:
    flat = np.concatenate([np.asarray(s, np.float64).reshape(-1) for s in scores])
    ratios.append(np.sum(flat > m * flat.mean()) / flat.size * 100)
  density = np.array(ratios)
  density = (density - density.min()) * (1 / (density.max() - density.min()) * lam * 2)
  density = density - np.mean(density) + (1 - sparsity)
  return 1 - density
