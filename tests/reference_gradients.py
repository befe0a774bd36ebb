"""Slow oracles in NumPy float64 for scores that take derivatives; nothing of jprune is used here.

Models with derivatives in closed form, and central differences for all others.
"""

import itertools

import numpy as np


def f64(x):
  return np.asarray(x).astype(np.float64)


# --------------------------------------------------------------------- models, sample by sample


def linear_grads(w, b, x, y):
  """Squared error/2 of ``x w + b`` summed over outputs: gradients of each sample."""
  w, b, x, y = map(f64, (w, b, x, y))
  error = x @ w + b - y
  return np.einsum('ni,no->nio', x, error), error


def linear_hessian(x, outputs):
  """Its mean Hessian in (w, b) of one output, the same for all: of [x, 1]; ``outputs`` blocks."""
  rows = np.concatenate([f64(x), np.ones((len(x), 1))], axis=1)
  return np.kron(rows.T @ rows / len(x), np.eye(outputs))


def logistic(w, x, y):
  """Logistic regression, labels 0 or 1: mean loss, gradients of samples, mean Hessian."""
  w, x, y = map(f64, (w, x, y))
  z = x @ w
  p = 1 / (1 + np.exp(-z))
  loss = np.mean(np.logaddexp(0, z) - y * z)
  return loss, x * (p - y)[:, None], (x * (p * (1 - p))[:, None]).T @ x / len(x)


# -------------------------------------------------------------------------------------- scores


def snip(w, grads):
  """Lee et al. 2019, eq. 5, without the division; ``grads`` is of shape (batches, ...)."""
  return np.abs(f64(w) * f64(grads).sum(axis=0))


def taylor_samples(w, grads):
  """``grads`` of shape (samples, ...)."""
  return np.abs(f64(w) * f64(grads)).mean(axis=0)


def fisher(w, grads):
  """Theis et al. 2018, eq. 8."""
  return 0.5 * f64(w) ** 2 * np.square(f64(grads)).mean(axis=0)


def grasp(w, hessian, grad):
  """Wang et al. 2020, eq. 8, negated: flat weights."""
  return f64(w) * (f64(hessian) @ f64(grad))


def obd(w, hessian):
  """LeCun et al. 1989, eq. 5: flat weights."""
  return 0.5 * f64(w) ** 2 * np.diag(f64(hessian))


def synflow_mlp(kernels, biases=None):
  """Tanaka et al. 2020 for a ReLU MLP, by one forward and one backward pass written out.

  Returns the scores of kernels, of biases, and R.
  """
  kernels = [np.abs(f64(k)) for k in kernels]
  biases = [
    np.zeros(k.shape[1]) if biases is None else np.abs(f64(b))
    for k, b in zip(kernels, biases or kernels)
  ]
  flows = [np.ones(kernels[0].shape[0])]
  for kernel, bias in zip(kernels, biases):
    flows.append(flows[-1] @ kernel + bias)  # all is positive: ReLU does nothing
  total = flows[-1].sum()
  pull = np.ones(kernels[-1].shape[1])
  of_kernels, of_biases = [], []
  for kernel, bias, flow in zip(kernels[::-1], biases[::-1], flows[-2::-1]):
    of_kernels.append(kernel * np.outer(flow, pull))
    of_biases.append(bias * pull)
    pull = kernel @ pull
  return of_kernels[::-1], of_biases[::-1], total


def synflow_by_paths(kernels):
  """The same without biases from the definition: each path adds the product of its weights."""
  kernels = [np.abs(f64(k)) for k in kernels]
  scores = [np.zeros_like(k) for k in kernels]
  widths = [kernels[0].shape[0], *(k.shape[1] for k in kernels)]
  for path in itertools.product(*map(range, widths)):
    steps = list(itertools.pairwise(path))
    product = np.prod([k[s] for k, s in zip(kernels, steps)])
    for score, step in zip(scores, steps):
      score[step] += product
  return scores


# -------------------------------------------------------------------------- finite differences


def gradient(fn, x, step=1e-5):
  """Central differences of ``fn(x) -> number`` at each entry of ``x``."""
  x = f64(x)
  out = np.zeros_like(x)
  for i in np.ndindex(x.shape):
    ends = []
    for sign in (1, -1):
      moved = x.copy()
      moved[i] += sign * step
      ends.append(fn(moved))
    out[i] = (ends[0] - ends[1]) / (2 * step)
  return out


def hessian(fn, x, step=1e-4):
  """Central differences of central differences, ``x`` flat."""
  return np.stack(
    [gradient(lambda y, i=i: gradient(fn, y, step)[i], x, step) for i in range(x.size)]
  )
