"""First-order Taylor expansion over data: of the whole loss, or sample by sample.

Gradients of single samples are taken for a chunk of samples at a time, since each of them is as
large as the params. A chunk takes every so-manieth sample, so that where samples are spread over
devices, each device has a part in every chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jprune import _checks, tree
from jprune._batches import as_iterable
from jprune._entry import public
from jprune.scores import _errors
from jprune.scores._gradients import (
  Leaves,
  Loss,
  Term,
  all_finite,
  gradients,
  summed,
  times,
  weights_of,
  zeros_like,
)
from jprune.typing import LossFn, Params, Scores


@public
def taylor_batches(params: Params, loss_fn: LossFn, *batches: Any, progress: bool = True) -> Scores:
  r"""How much the mean loss changes, to first order, when a weight is removed.

  .. math:: s_i = \Bigl|\theta_i \, \frac1B \sum_b \partial L_b / \partial \theta_i\Bigr|

  :func:`taylor` with gradients that are averaged over batches, each of which counts the same.
  Where the loss is at a minimum these gradients vanish; see :func:`taylor_samples`.

  Args:
    params: tree of arrays. What is neither floating nor complex is held fixed.
    loss_fn: ``loss_fn(params, batch) -> scalar``, the mean over the batch.
    *batches: at least one batch; or one iterable of batches that is no tree, such as a generator
      or a data loader; unpack a list.
    progress: whether to show a bar, in terminals and notebooks, if it takes long.

  Returns:
    Scores, float32, in units of the loss, structure and shapes of ``params``; ``None`` for leaves
    that are neither floating nor complex arrays.

  Raises:
    ValueError: if there is no leaf or no batch; if a gradient is not finite.
    TypeError: if a leaf is a shape struct, a batch holds what is no array, or the loss is no
      floating scalar.

  Examples:
    >>> loss_fn = lambda p, x: jnp.mean(x @ p['w'])
    >>> params = {'w': jnp.array([1.0, -2.0])}
    >>> batches = (jnp.array([[i, 1.0]]) for i in range(3))
    >>> taylor_batches(params, loss_fn, batches)['w']
    Array([1., 2.], dtype=float32)

  References:
    Molchanov et al., Importance estimation for neural network pruning, CVPR 2019,
    arXiv:1906.10771
  """
  weights = weights_of('taylor_batches', params, loss_fn)
  given = as_iterable('taylor_batches', batches)
  total, count = summed(weights, loss_fn, given, gradients, progress=progress)
  return weights.scores(times, [each / count for each in total])


@public
def taylor_samples(
  params: Params, loss_fn: LossFn, *batches: Any, chunk: int = 16, progress: bool = True
) -> Scores:
  r"""How much the loss of a sample changes, on average, when a weight is removed.

  .. math:: s_i = \frac1N \sum_n |\theta_i \, \partial L_n / \partial \theta_i|

  The absolute value of each sample: changes of opposite sign don't cancel, as they do in
  :func:`taylor_batches`, wholly so at a minimum of the loss.

  Args:
    params: tree of arrays. What is neither floating nor complex is held fixed.
    loss_fn: ``loss_fn(params, batch) -> scalar``. It is called with batches of one sample, whose
      axis 0 has length 1.
    *batches: at least one batch; or one iterable of batches that is no tree, such as a generator
      or a data loader; unpack a list. Axis 0 of each leaf counts the samples.
    chunk: how many samples are looked at together; memory holds as many gradients.
    progress: whether to show a bar, in terminals and notebooks, if it takes long.

  Returns:
    Scores, float32, in units of the loss, structure and shapes of ``params``; ``None`` for leaves
    that are neither floating nor complex arrays.

  Raises:
    ValueError: if there is no leaf or no batch; if leaves of a batch differ in the number of
      samples; if a gradient is not finite; if ``chunk`` isn't an int of at least 1.
    TypeError: if a leaf is a shape struct, a batch holds what is no array, or the loss is no
      floating scalar.

  Examples:
    >>> loss_fn = lambda p, x: jnp.mean(x @ p['w'])
    >>> params = {'w': jnp.array([1.0, -2.0])}
    >>> samples = jnp.array([[3.0, 1.0], [-3.0, 1.0]])
    >>> taylor_samples(params, loss_fn, samples)['w']
    Array([3., 2.], dtype=float32)
    >>> taylor_batches(params, loss_fn, samples)['w']
    Array([0., 2.], dtype=float32)

  References:
    Molchanov et al., Pruning convolutional neural networks for resource efficient inference,
    ICLR 2017, arXiv:1611.06440 (eq. 7, there for feature maps)
  """
  weights = weights_of('taylor_samples', params, loss_fn)
  _checks.check_positive_int('taylor_samples', 'chunk', chunk)
  given = as_iterable('taylor_samples', batches)
  size_of = lambda number, batch: sample_count('taylor_samples', number, batch)
  # with the mean taken of |g|, as |theta| is the same for all samples
  sizes = [_changes if tree.is_complex(leaf) else _sizes for leaf in weights.floating]
  term = sample_term(chunk, sizes)
  total, count = summed(weights, loss_fn, given, term, progress=progress, size_of=size_of)
  return weights.scores(_times_or_done, [each / count for each in total])


def _sizes(grads: jax.Array, leaf: jax.Array) -> jax.Array:
  del leaf
  return jnp.abs(grads)


def _changes(grads: jax.Array, parts: jax.Array) -> jax.Array:
  """The sizes of the changes that both parts of a complex weight make, in the place of one."""
  changes = jnp.abs(jnp.sum(parts[None] * grads, axis=1))
  return jnp.stack([changes, jnp.zeros_like(changes)], axis=1)


def _times_or_done(leaf: jax.Array, value: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  return times(leaf, value, shape) if value.shape == shape else value[0]


def sample_count(function: str, number: int, batch: Any) -> int:
  """How many samples a batch has.

  Raises:
    ValueError: if a leaf has no axis of samples, or one of another length.
  """
  size: int | None = None
  for path, leaf in zip(*tree.flatten(batch)[:2]):
    size = _errors.check_sample_axis(function, number, path, leaf, size)
  return size or 0


def sample_term(chunk: int, of_gradients: Sequence[Callable[..., jax.Array]]) -> Term:
  """The term that is the sum over samples of what is made of each sample's gradient.

  Args:
    chunk: how many samples are looked at together.
    of_gradients: for each leaf ``(its gradients by sample, the leaf) -> values``.
  """

  def term(loss: Loss, leaves: Leaves, batch: Any, *extra: Any) -> tuple[Leaves, Leaves]:
    del extra

    def one(sample: Any) -> Leaves:
      grads = jax.grad(loss)(leaves, jax.tree.map(lambda x: x[None], sample))
      return [grad.astype(jnp.float32) for grad in grads]

    def add(total: Leaves, step: tuple[Any, jax.Array]) -> tuple[Leaves, None]:
      samples, counts = step
      grads = jax.vmap(one)(samples)
      made = [of(grad, leaf) for of, grad, leaf in zip(of_gradients, grads, leaves)]
      kept = [_where_counts(counts, values) for values in made]
      return [a + jnp.sum(b, axis=0) for a, b in zip(total, kept)], None

    chunks, counts = _chunks(jax.tree.map(jnp.asarray, batch), chunk)
    steps = chunks, jnp.asarray(counts)
    total, _ = lax.scan(add, [zeros_like(leaf) for leaf in leaves], steps)
    return total, all_finite(total)

  return term


def _where_counts(counts: jax.Array, values: jax.Array) -> jax.Array:
  lined_up = counts.reshape([-1] + [1] * (values.ndim - 1))
  return jnp.where(lined_up, values, jnp.zeros_like(values))


def _chunks(batch: Any, chunk: int) -> tuple[Any, np.ndarray]:
  """The samples as ``(chunks, samples, ...)``, and which of them count.

  Chunks are of one size; what is missing is filled up with samples that don't count.
  """
  size = jax.tree.leaves(batch)[0].shape[0]
  number = -(-size // chunk)
  each = -(-size // number)
  extra = number * each - size

  def split(x: jax.Array) -> jax.Array:
    mesh = jax.typeof(x).sharding.mesh
    if AxisType.Explicit in mesh.axis_types:  # where split axes of types can't be taken apart
      x = jax.sharding.reshard(x, NamedSharding(mesh, PartitionSpec()))
    if extra:
      x = jnp.concatenate([x, x[:extra]])
    return jnp.swapaxes(x.reshape(each, number, *x.shape[1:]), 0, 1)

  counts = (np.arange(number * each) < size).reshape(each, number).T
  return jax.tree.map(split, batch), counts
