"""Statistics of what each leaf of a function is multiplied by."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from jprune import tree
from jprune._entry import public
from jprune.graph._capture.capturing import (
  Capturing,
  compiled_for,
  given_weights,
  run_once,
  split_of,
)
from jprune.graph._statistics.stats import Stats
from jprune.tree._selected import matching_for, selected_for
from jprune.typing import Params, Where


@functools.partial(public, runs=True)
def capture(
  fn: Callable[..., Any],
  params: Params,
  *args: Any,
  gram: bool = False,
  where: Where = None,
  sample_weights: Any = None,
) -> tuple[Any, Stats]:
  r"""Runs a function and tells what each of its leaves is multiplied by.

  For every matrix product and convolution ``y = x W`` with a selected leaf ``W``: number of rows,
  mean, squared deviations and zeros of each input of ``x`` and, with ``gram``, the products of all
  pairs of inputs. The function is traced and rewritten, no module is wrapped: leaves are followed
  through ``jit``, ``scan``, remat, ``cond``, ``while``, ``vmap``, custom derivatives, transposes,
  reshapes, slices, stacks, casts and scales. Leaves over which a scan runs, experts and groups of a
  convolution have statistics for each of their matrices; a leaf that is used several times (tied
  layers, a loop) has those of all rows together. Convolutions see their windows, unfolded. Leaves
  that are multiplied by the same values share one copy.

  In ``x @ (0.5 * w)`` the leaf is multiplied by ``0.5 * x``, and that is what statistics are of,
  whether the number stands in the code or is an argument, another leaf or computed from those. Of
  a leaf that ``fn`` masks, multiplies by several numbers or its own norm, or computes with in other
  ways, they are of the ``x`` that the result is multiplied by; ``Use.direct`` then is false, a
  note says so, and repair refuses it. Mask params before: ``capture(fn, apply(params, masks), x)``.

  A product with what no argument has a part in, such as other params or a constant, makes another
  weight: it isn't counted, and what follows from it isn't followed. Pass data as arguments.

  Of the branches of ``cond`` the one that is taken counts; but under ``vmap``, where JAX makes a
  choice between the results of all of them, all do.

  Compiled once for each function and for shapes, dtypes and shardings, as under ``jax.jit``, and as
  there ``fn`` has to be pure: what it reads besides its arguments (a closure, a global, attributes
  of a module) is read when it is first traced, and taken to stay as it is. Bound methods of one
  object are one function; a new function object, such as a lambda in a loop, is compiled anew.

  Inputs may be of any size: the :class:`Moments` are of inputs over powers of two where squares
  would leave float32, and batches of different sizes merge. Subnormal numbers count as zeros, as
  they do in XLA. Sums are float32, of counts too: above 2^24 rows single ones round.

  Args:
    fn: ``fn(params, *args)``, as for :func:`channels`.
    params: tree of arrays.
    *args: trees of arrays. Data may be sharded; statistics are of all of it.
    gram: whether to collect products of pairs of inputs: ``inputs ** 2`` floats for each.
    where: selects the leaves, as for :func:`jprune.prune`; but by default all floating and complex
      ones with two or more dimensions, since the function tells which of them it multiplies by.
    sample_weights: of tokens, such as a padding mask: an array whose axes are the first ones of the
      first argument that starts with them. A row has the weight of the token at its place, whatever
      was mixed into it; what lies under a weight of 0 may be NaN. Leaves whose rows are not at the
      places of tokens (experts that choose their tokens) are skipped.

  Returns:
    What ``fn`` returns, and :class:`Stats`; ``stats.skipped`` names every selected leaf of two or
    more dimensions of which nothing is known, with the reason.

  Raises:
    ValueError: if nothing is selected, no argument starts with the axes of ``sample_weights``, or
      one of these is negative or NaN.
    TypeError: if ``fn`` is no function or can't be traced with these arguments, one of them is no
      array, or a selected leaf isn't floating.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.eye(2), 'out': jnp.ones((2, 3))}
    >>> y, stats = capture(fn, params, jnp.array([[1.0, -2.0], [3.0, 4.0]]), gram=True)
    >>> print(stats)
    leaf  batch  inputs  outputs  rows  moments
    -------------------------------------------
    in        1       2        2     2        0
    out       1       2        3     2        1
    >>> ((use, moments),) = stats['out']
    >>> moments.mean, moments.zeros
    (Array([[2., 2.]], dtype=float32), Array([[0., 1.]], dtype=float32))
  """
  chosen = _chosen('capture', params, where)
  sample_weights = given_weights('capture', args, sample_weights)
  values = jax.tree.leaves((params, args, sample_weights))
  if tree.is_traced(*values):
    return run_once('capture', fn, chosen, gram, params, args, sample_weights)
  run = compiled_for(run_once, 'capture', fn, chosen, gram)
  return run(params, args, sample_weights, spread=split_of(values, False))


@functools.partial(public, runs=True)
def capture_batches(
  fn: Callable[..., Any],
  params: Params,
  batches: Iterable[Any],
  *,
  gram: bool = False,
  where: Where = None,
  sample_weights: Callable[[Any], Any] | None = None,
  progress: bool = True,
) -> Stats:
  """Statistics of all batches together, as :func:`capture` takes them of one.

  Compiled once for all batches of one shape, in all calls with one function, as
  :func:`capture` is; only the statistics are kept between batches, and what ``fn`` returns isn't
  computed.

  Args:
    fn: ``fn(params, *batch)``.
    params: tree of arrays.
    batches: an iterable of batches; a tuple holds several arguments, all else is one.
    gram: as for :func:`capture`.
    where: as for :func:`capture`.
    sample_weights: ``sample_weights(batch)`` are the weights of tokens of a batch.
    progress: whether to show a bar, if tqdm is installed.

  Returns:
    The :class:`Stats`.

  Raises:
    ValueError: if there is no batch, if inputs of a leaf are infinite or NaN (the leaf and the
      number of the batch, from 0, are named), or as for :func:`capture`.
    TypeError: as for :func:`capture`.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> params = {'w': jnp.ones((2, 3))}
    >>> stats = capture_batches(fn, params, [jnp.ones((4, 2)), jnp.zeros((4, 2))])
    >>> ((use, moments),) = stats['w']
    >>> moments.count, moments.mean
    (Array([8.], dtype=float32), Array([[0.5, 0.5]], dtype=float32))
  """
  function = 'capture_batches'
  return Capturing(function, fn, _chosen(function, params, where), gram, sample_weights)(
    params, batches, progress
  )


def _chosen(function: str, params: Params, where: Where) -> tuple[bool, ...]:
  paths, leaves, _ = tree.flatten(params)
  if where is None:  # names needn't tell, where the function does
    found = [tree.is_inexact(x) and len(x.shape) >= 2 and tree.size(x) > 0 for x in leaves]
    if any(found):
      return tuple(found)
  if isinstance(where, (str, re.Pattern)):  # vectors too, where it finds nothing else
    named = matching_for(function, 'where', params, where)
    wide = [yes and len(np.shape(x)) >= 2 for yes, x in zip(named, leaves)]
    where = [path for path, yes in zip(paths, wide if any(wide) else named) if yes]
  return tuple(selected_for(function, params, where))
