"""Synaptic flow: how much of what flows through a network of absolute weights passes each one.

With absolute weights every layer multiplies the flow by something like the square root of its
fan-in, and twenty layers may leave the range of float32. Three steps change no order:

- R is multiplied by a power of two, which the backward pass starts from. It is linear.
- The input is multiplied by a power of two. If fn is homogeneous in its input (biases of zero,
  ReLU, linear layers, pooling, residual sums), so is R; this is checked by halving it once more.
- Both only where scores over- or underflow otherwise, so that as a rule they are as defined.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jprune import _checks, tree
from jprune._entry import public
from jprune.scores import _errors
from jprune.scores._gradients import Leaves, Weights, all_finite, placed_like, zeros_like
from jprune.typing import Params, Scores

# Powers of two that are tried in turn, down or up. Sums have to stay finite, hence not 127.
_INPUT = np.array([0, 0, 40, 80, 100], np.int32)
_OUTPUT = np.array([0, 60, 60, 80, 100], np.int32)
_TINY = 2.0**-60  # largest scores below this are scaled up, so that the small ones survive
_CLOSE = 1e-5


@public
def synflow(params: Params, fn: Callable[..., Any], *args: Any) -> Scores:
  r"""How much of the flow of an all-positive copy of the network passes a weight: no data.

  .. math:: s_i = \left|\theta_i \frac{\partial R}{\partial \theta_i}\right|, \qquad
    R = \sum f_{|\theta|}(1)

  where :math:`f_{|\theta|}` has all floating leaves replaced by their absolute values, batch
  statistics included, and floating arguments by ones (complex ones too; of complex results the
  real parts are summed). Let ``fn`` be the network in inference
  mode, without dropout, and return its outputs alone.

  Scores are conserved: with ReLU and biases of zero, those of each layer sum to R, and those of
  the weights into a hidden unit sum to those of the weights out of it. So a large layer has small
  scores, and pruning once by them may empty it; pruning in many rounds, scored anew in each, as
  :func:`jprune.synflow_prune` does, keeps the layers balanced.

  Deep networks of absolute weights leave the range of float32. Where scores would, all of them
  are multiplied by one power of two: R by it, which is always exact, and the input, if ``fn`` is
  found homogeneous in it. Their order is the same. That reaches R from about 1e-65 to 1e65; a
  smaller one, as when nothing flows at all, gives scores of 0.

  Args:
    params: tree of arrays.
    fn: ``fn(params, *args)`` returns arrays; floating ones are summed.
    *args: further arguments. Of floating arrays only shape and dtype matter, so shape structs
      will do; a batch of one is enough. All others are passed on.

  Returns:
    Scores, float32, structure and shapes of ``params``; ``None`` for leaves that are neither
    floating nor complex arrays. Under a trace, where nothing can be refused, NaN if they overflow
    all the same.

  Raises:
    ValueError: if there is no leaf; if scores overflow and can't be scaled.
    TypeError: if a leaf is a shape struct; if ``fn`` is no function or returns no floating array.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.array([[1.0, -2.0]]), 'out': jnp.array([[3.0], [-1.0]])}
    >>> synflow(params, fn, jnp.zeros((1, 1)))['in']
    Array([[3., 2.]], dtype=float32)

  References:
    Tanaka et al., Pruning neural networks without any data by iteratively conserving synaptic
    flow, NeurIPS 2020, arXiv:2006.05467
  """
  weights = Weights('synflow', params)
  if not weights.floating:
    return weights.tree([])
  flow, inputs = flow_of(weights, fn, args)
  found, finite = jax.jit(flow)(weights.floating, weights.arrays, inputs)
  check_flow(weights, finite)
  return weights.tree([placed_like(each, leaf) for each, leaf in zip(found, weights.floating)])


def flow_of(
  weights: Weights, fn: Callable[..., Any], args: Any
) -> tuple[Callable[..., tuple[Leaves, jax.Array]], Leaves]:
  """What gives the scores of floating leaves and whether they are finite; and its inputs.

  Returns:
    ``flow(floating, arrays, inputs) -> (scores, finite)`` and the inputs, arrays all of them.

  Raises:
    TypeError: if ``fn`` is no function.
  """
  if not callable(fn):
    raise _checks.not_a_function(weights.function, fn)
  leaves, treedef = jax.tree.flatten(args)
  passed = [i for i, x in enumerate(leaves) if tree.is_inexact(x) or isinstance(x, jax.Array)]
  inputs = [jnp.ones_like(x) if tree.is_inexact(x) else x for x in (leaves[i] for i in passed)]

  def total(floating: Leaves, arrays: Leaves, inputs: Leaves, exponent: Any) -> jax.Array:
    whole, factor = list(leaves), jnp.ldexp(jnp.float32(1), exponent)
    for i, x in zip(passed, inputs):
      whole[i] = x * factor.astype(x.dtype) if tree.is_inexact(x) else x
    out = fn(weights.joined(floating, arrays), *treedef.unflatten(whole))
    outs = [each for each in jax.tree.leaves(out) if tree.is_inexact(each)]
    if not outs:
      raise _errors.no_floating_output(weights.function)
    sums = [jnp.sum(jnp.real(each).astype(jnp.float32)) for each in outs]
    return functools.reduce(jnp.add, sums)

  return lambda *given: _in_range(total, *given), inputs


def check_flow(weights: Weights, finite: jax.Array) -> None:
  """Refuses concrete scores that are not finite."""
  if not tree.is_traced(finite) and not np.all(finite):
    bad = int(np.argmin(np.asarray(finite)))
    raise _errors.not_finite_flow(weights.function, weights.paths[bad])


def _in_range(
  total: Callable[..., jax.Array], floating: Leaves, arrays: Leaves, inputs: Leaves
) -> tuple[Leaves, jax.Array]:
  """Scores by the first scaling that keeps them in range, NaN if none does; which are finite."""
  sizes = [jnp.abs(leaf) for leaf in floating]

  def attempt(down: jax.Array, up: jax.Array) -> tuple[Leaves, jax.Array]:
    seed = jnp.ldexp(jnp.float32(1), up)
    flow, pull = jax.vjp(lambda leaves: total(leaves, arrays, inputs, down), sizes)
    grads = pull(seed)[0]
    found = [size.astype(jnp.float32) * g.astype(jnp.float32) for size, g in zip(sizes, grads)]
    halved = lambda: 2 * total(sizes, arrays, inputs, down - 1)
    other = lax.cond(down == 0, lambda: flow, halved)
    same = jnp.abs(flow - other) <= _CLOSE * jnp.abs(flow)
    return [jnp.abs(each) for each in found], same

  def body(state: Any) -> Any:
    step, sign, best, finite, some, _ = state
    found, same = attempt(sign * jnp.asarray(_INPUT)[step], sign * jnp.asarray(_OUTPUT)[step])
    largest = jnp.max(jnp.stack([jnp.max(each, initial=0.0) for each in found]))
    each = jnp.stack(all_finite(found)) & jnp.isfinite(largest) & same
    fits = jnp.all(each)
    sign = jnp.where(step == 0, jnp.where(fits, 1, -1), sign)
    good = fits & ((largest > 0) | (sign > 0))
    best = [jnp.where(good, new, old) for new, old in zip(found, best)]
    finite = jnp.where(good | (step == 0), each, finite)
    return step + 1, sign, best, finite, some | good, good & (largest >= _TINY)

  undecided = lambda state: ~state[-1] & (state[0] < len(_INPUT))
  start = [zeros_like(leaf) for leaf in floating]
  none, no = jnp.zeros(len(floating), bool), jnp.asarray(False)
  state = (jnp.int32(0), jnp.int32(1), start, none, no, no)
  _, _, best, finite, some, _ = lax.while_loop(undecided, body, state)
  nan = lambda: [jnp.full_like(each, jnp.nan) for each in best]
  return lax.cond(some, lambda: best, nan), finite  # no NaN is made where none is returned
