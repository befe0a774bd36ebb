"""What is said when something is wrong; every message names function, argument, value and fix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune._checks.arrays import check_floating
from jprune._checks.words import kind, listed, message


def check_gradient(function: str, path: str, leaf: Any, grad: Any) -> None:
  """The gradient by a floating leaf is floating, by a complex one it is complex."""
  if not jnp.issubdtype(leaf.dtype, jnp.complexfloating):
    check_floating(function, 'grads', path, grad)
  elif not hasattr(grad, 'dtype') or not jnp.issubdtype(grad.dtype, jnp.complexfloating):
    fix = 'Take it with jax.grad, which gives the gradient by a complex leaf as a complex array.'
    raise TypeError(message(function, 'grads', 'a complex array', kind(grad), fix, path))


def not_a_loss(function: str, loss_fn: Any) -> TypeError:
  constraint = 'a function of the params and a batch'
  fix = 'Write loss_fn(params, batch) -> scalar.'
  return TypeError(message(function, 'loss_fn', constraint, type(loss_fn).__name__, fix))


def check_loss(function: str, loss: Any) -> None:
  """The loss of one batch must be a real floating scalar."""
  shape, dtype = getattr(loss, 'shape', None), getattr(loss, 'dtype', None)
  if shape != () or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
    constraint = 'a function that returns one floating scalar'
    fix = 'Return the mean over the batch, and nothing besides.'
    raise TypeError(message(function, 'loss_fn', constraint, kind(loss), fix))


def check_batch(function: str, number: int, path: str, leaf: Any) -> None:
  """Each leaf of a batch must be something that ``jit`` takes."""
  known = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)
  if not isinstance(leaf, known) or getattr(leaf, 'dtype', None) == np.dtype(object):
    fix = 'Convert its leaves with jnp.asarray, and leave text out.'
    got = f'{type(leaf).__name__} in batch {number}'
    raise TypeError(message(function, 'batches', 'trees of arrays', got, fix, path))


def empty_batch(function: str, number: int) -> ValueError:
  got = f'no array in batch {number}'
  return ValueError(message(function, 'batches', 'trees of arrays', got))


def check_sample_axis(function: str, number: int, path: str, leaf: Any, size: int | None) -> int:
  """How many samples a leaf of a batch has: its axis 0, as in the leaves before it."""
  shape = np.shape(leaf)
  if not shape or not shape[0] or (size is not None and shape[0] != size):
    constraint = 'trees whose leaves have the same samples along axis 0, at least one'
    before = '' if size is None or not shape else f', other leaves {size} samples'
    got = f'shape {shape} in batch {number}{before}'
    fix = 'Repeat for each sample what all samples share, or let loss_fn close over it.'
    raise ValueError(message(function, 'batches', constraint, got, fix, path))
  return shape[0]


def not_finite_derivatives(function: str, path: str, number: int) -> ValueError:
  constraint = 'such that derivatives of loss_fn are finite'
  got = f'infinite or NaN ones in batch {number} (the first is batch 0)'
  fix = 'Look at this batch, and at the params, for overflow, 0/0 and log(0).'
  return ValueError(message(function, 'batches', constraint, got, fix, path))


def other_batches(function: str, first: int, second: int) -> ValueError:
  constraint = 'the same when read twice'
  got = f'{first} the first time and {second} the second'
  fix = 'Pass the batches one by one, or a generator: its batches are kept.'
  return ValueError(message(function, 'batches', constraint, got, fix))


def no_floating_output(function: str) -> TypeError:
  constraint = 'a function that returns floating arrays'
  return TypeError(message(function, 'fn', constraint, 'none', 'Return logits, not classes.'))


def not_finite_flow(function: str, path: str) -> ValueError:
  constraint = 'such that fn does not overflow on absolute params and an input of ones'
  fix = (
    'Use params in float32 and zero biases, with which it can be scaled; or smaller params: '
    'dividing a layer by 2 changes no order where layers follow one another.'
  )
  return ValueError(message(function, 'params', constraint, 'infinite or NaN scores', fix, path))


def too_large_to_sort(function: str, path: str, leaf: Any) -> ValueError:
  constraint, fix = 'of less than 2**31 weights a leaf', 'Split the leaf, or score it by magnitude.'
  return ValueError(message(function, 'params', constraint, kind(leaf), fix, path))


def stats_of_others(
  function: str, paths: Sequence[str], captured: Sequence[str], why: Mapping[str, str]
) -> ValueError:
  """``why``: reasons for which leaves were not captured."""
  got = f'those of {listed(captured)}, while the params have {listed(paths)}'
  if not captured:
    got = 'those of no leaf at all'
  if reasons := [path for path in paths if path in why and path not in captured]:
    got += f" ('{reasons[0]}' was not captured: {why[reasons[0]]})"
  fix = 'Capture them with the same tree of params.'
  return ValueError(message(function, 'stats', 'statistics of leaves of the params', got, fix))


def scores_too_far_apart(function: str, low: str, high: str) -> ValueError:
  constraint = 'such that scores of all leaves fit float32'
  got = f"ones of leaf '{high}' that are more than 2^200 times as large"
  fix = 'Score the leaves in calls of their own.'
  return ValueError(message(function, 'params', constraint, got, fix, low))
