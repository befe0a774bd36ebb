"""What scorers that need derivatives share: leaves to differentiate by, and sums over batches.

Each scorer is a *term*: what one batch contributes to a sum that has the shapes of the floating
leaves. The term of a batch and its addition to the sum are one compiled step, which all batches
of one shape share. It is compiled anew in each call, since a loss may close over anything; put
``jax.jit`` around the scorer to keep it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune import _checks, tree
from jprune._batches import shown
from jprune.scores import _errors
from jprune.typing import LossFn, Params, Scores

Leaves = list[jax.Array]
Loss = Callable[[Leaves, Any], jax.Array]
"""``(floating leaves, batch) -> float32 scalar``."""
Term = Callable[..., tuple[Leaves, Leaves]]
"""``(loss, leaves, batch, number of the batch, *extra) -> (terms, whether each is finite)``."""


class Weights:
  """Params taken apart: floating leaves to differentiate by, and what is held fixed.

  Complex leaves count among the floating ones. Derivatives are taken by their *parts*: real and
  imaginary parts, stacked along a new first axis, so that all that is made of derivatives is made
  of real numbers. A complex weight goes as a whole, so its score is of both of its parts together.

  Attributes:
    function: who asks, for the messages.
    paths: of the floating leaves.
    floating: the floating leaves.
    places: which of all leaves these are.
    arrays: the other JAX arrays, which are passed to compiled functions; whatever else there is
      (functions, Python numbers, NumPy arrays of ints) is closed over as it is.
  """

  def __init__(self, function: str, params: Params):
    paths, self._leaves, self._treedef = tree.flatten(params)
    if not paths:
      raise _checks.empty_tree(function)
    for path, leaf in zip(paths, self._leaves):
      _checks.check_values(function, path, leaf)
    self.function = function
    self.places = [i for i, leaf in enumerate(self._leaves) if tree.is_inexact(leaf)]
    self._others = [
      i
      for i, leaf in enumerate(self._leaves)
      if isinstance(leaf, jax.Array) and not tree.is_inexact(leaf)
    ]
    self.paths = [paths[i] for i in self.places]
    self.floating = [jnp.asarray(self._leaves[i]) for i in self.places]
    self.arrays = [self._leaves[i] for i in self._others]

  @property
  def parts(self) -> Leaves:
    """The floating leaves as real arrays; complex ones are ``(2, *shape)``."""
    return [_parts(leaf) if tree.is_complex(leaf) else leaf for leaf in self.floating]

  def joined(self, floating: Leaves, arrays: Leaves) -> Params:
    """The params, with these leaves in place of their own; complex ones may be given in parts."""
    leaves = list(self._leaves)
    for i, value in zip(self._others, arrays):
      leaves[i] = value
    for i, own, value in zip(self.places, self.floating, floating):
      if tree.is_complex(own) and not tree.is_complex(value):
        value = lax.complex(*value) if value.ndim > own.ndim else value.astype(own.dtype)
      leaves[i] = value
    return self._treedef.unflatten(leaves)

  def tree(self, values: list[Any]) -> Scores:
    """One value for each floating leaf, as a tree along the params; ``None`` elsewhere."""
    leaves: list[Any] = [None] * len(self._leaves)
    for i, value in zip(self.places, values):
      leaves[i] = value
    return self._treedef.unflatten(leaves)

  def scores(self, score: Callable[..., jax.Array], *values: Any) -> Scores:
    """``score(parts, *value, shape)`` of each floating leaf, where the leaf lies."""
    given = zip(self.floating, self.parts, *values)
    found = [score(parts, *each, leaf.shape) for leaf, parts, *each in given]
    return self.tree([placed_like(each, leaf) for each, leaf in zip(found, self.floating)])


def weights_of(function: str, params: Params, loss_fn: LossFn) -> Weights:
  """The params taken apart, once everything but the batches has been checked."""
  weights = Weights(function, params)
  if not callable(loss_fn):
    raise _errors.not_a_loss(function, loss_fn)
  return weights


def summed(
  weights: Weights,
  loss_fn: LossFn,
  batches: Iterable[Any],
  term: Term,
  *extra: Any,
  progress: bool,
  size_of: Callable[[int, Any], int] = lambda number, batch: 1,
  before: int | None = None,
) -> tuple[Leaves, int]:
  """The sum of a term over all batches, in float32, and how much there was of them.

  Args:
    weights: what to differentiate by.
    loss_fn: of the user.
    batches: read once.
    term: what one batch contributes.
    *extra: further arguments of the term.
    progress: whether to show a bar.
    size_of: ``(number, batch) -> int``, what a batch counts for; it may refuse the batch.
    before: the size that an earlier reading of the same batches has found.

  Raises:
    ValueError: if there is no batch; if a derivative is not finite; if the size is another one
      than before.
    TypeError: if a batch holds what is no array, or the loss is no scalar.
  """
  function = weights.function

  def step(floating, arrays, total, number, batch, *extra):
    def loss(leaves: Leaves, batch: Any) -> jax.Array:
      value = _loss(function, loss_fn, weights.joined(leaves, arrays), batch)
      _errors.check_loss(function, value)
      return value.astype(jnp.float32)

    terms, finite = term(loss, floating, batch, number, *extra)
    return [a + b for a, b in zip(total, terms)], jnp.stack([~each for each in finite])

  # a trace may need one sum for many models, so that there it can't be written over
  donating, plain = jax.jit(step, donate_argnums=2), jax.jit(step)
  parts = weights.parts
  total = [zeros_like(leaf) for leaf in parts]
  progress = progress and not tree.is_traced(*weights.floating)
  size, number, pending = 0, -1, None
  for number, batch in enumerate(shown(function, batches, progress)):
    _check_batch(function, number, batch)
    size += size_of(number, batch)
    if not weights.floating:
      continue
    args = (parts, weights.arrays, total, np.uint32(number), batch, *extra)
    run = plain if tree.is_traced(*jax.tree.leaves(args)) else donating
    total, bad = run(*args)
    if pending is not None:
      _check_finite(weights, number - 1, pending)  # while this batch is being computed
    pending = bad
  if before is not None and size != before:
    raise _errors.other_batches(function, before, size)
  if number < 0:
    raise _checks.no_batches(function)
  if pending is not None:
    _check_finite(weights, number, pending)
  return total, size


def gradients(loss: Loss, leaves: Leaves, batch: Any, *extra: Any) -> tuple[Leaves, Leaves]:
  """The term that is the gradient."""
  del extra
  grads = [_single(grad) for grad in jax.grad(loss)(leaves, batch)]
  return grads, all_finite(grads)


def hessian_product(loss: Loss, leaves: Leaves, batch: Any, vector: Leaves) -> Leaves:
  """The Hessian of the loss times a vector, forward over reverse."""
  grad = lambda leaves: jax.grad(loss)(leaves, batch)
  vector = [v.astype(leaf.dtype) for v, leaf in zip(vector, leaves)]
  return [_single(each) for each in jax.jvp(grad, (leaves,), (vector,))[1]]


def all_finite(values: Leaves) -> Leaves:
  """For each array whether all of it is finite."""
  return [jnp.all(jnp.isfinite(value)) for value in values]


def zeros_like(leaf: jax.Array) -> jax.Array:
  """Float32 zeros, lying as the leaf does."""
  return jnp.zeros_like(leaf, dtype=jnp.float32)


def placed_like(score: jax.Array, leaf: jax.Array) -> jax.Array:
  """The scores where the leaf lies, as far as that is known."""
  if tree.is_traced(score, leaf):
    return score
  same = not leaf.committed or score.sharding.is_equivalent_to(leaf.sharding, leaf.ndim)
  return score if same else jax.device_put(score, leaf.sharding)


@functools.partial(jax.jit, static_argnames=('shape', 'absolute'))
def times(
  leaf: jax.Array, value: jax.Array, shape: tuple[int, ...], absolute: bool = True
) -> jax.Array:
  """The weight times a value, in float32; the sum of that, of parts of complex weights."""
  product = _together(_single(leaf) * value, shape)
  return jnp.abs(product) if absolute else product


@functools.partial(jax.jit, static_argnames='shape')
def half_square_times(leaf: jax.Array, value: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  r""":math:`\theta^2 v / 2`; no square of a large weight meets a value of zero."""
  return _together(0.5 * (_single(leaf) * (_single(leaf) * value)), shape)


@jax.jit
def _parts(leaf: jax.Array) -> jax.Array:
  return jnp.stack([leaf.real, leaf.imag])


def _together(values: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """What belongs to the parts of complex weights of this shape, added up."""
  return values if values.shape == shape else jnp.sum(values, axis=0)


def _single(value: jax.Array) -> jax.Array:
  return value.astype(jnp.float32)


def _loss(function: str, loss_fn: LossFn, params: Params, batch: Any) -> Any:
  try:
    return loss_fn(params, batch)
  except Exception as error:
    if isinstance(batch, (list, tuple)) and batch and _is_batch(loss_fn, params, batch[0]):
      raise _checks.list_of_batches(function, batch) from error
    if isinstance(batch, list):
      error.add_note('The batch is a list. If it is a list of batches, unpack it with *.')
    raise


def _is_batch(loss_fn: LossFn, params: Params, batch: Any) -> bool:
  """Whether there is a loss of this, by shapes alone."""
  try:
    return jax.eval_shape(loss_fn, params, batch).shape == ()
  except Exception:
    return False


def _check_batch(function: str, number: int, batch: Any) -> None:
  paths, leaves, _ = tree.flatten(batch)
  if not leaves:
    raise _errors.empty_batch(function, number)
  for path, leaf in zip(paths, leaves):
    _errors.check_batch(function, number, path, leaf)


def _check_finite(weights: Weights, number: int, bad: jax.Array) -> None:
  if tree.is_traced(bad):
    return
  found = np.flatnonzero(np.asarray(bad))
  if found.size:
    path = weights.paths[found[0]]
    raise _errors.not_finite_derivatives(weights.function, path, number)
