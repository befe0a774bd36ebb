"""Statistics of what each leaf of a function is multiplied by."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding

from jprune import _batches, _checks, tree
from jprune._entry import public
from jprune.graph import _errors
from jprune.graph._analysis.traced import Traced
from jprune.graph._capture.coverage import Joint
from jprune.graph._capture.find_products import Survey
from jprune.graph._capture.moments import Moments, merged
from jprune.graph._capture.recorder import Recording
from jprune.graph._capture.split import Split
from jprune.graph._capture.stats import Stats
from jprune.graph._program.compiled import Compiled
from jprune.tree._selected import matching_for, selected_for
from jprune.typing import Params, Where


@public
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
  sample_weights = _given('capture', args, sample_weights)
  values = jax.tree.leaves((params, args, sample_weights))
  if tree.is_traced(*values):
    return _run('capture', fn, chosen, gram, params, args, sample_weights)
  run = _compiled(_run, 'capture', fn, chosen, gram)
  return run(params, args, sample_weights, split=_split(values, False))


@public
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


_PROGRAMS = Compiled()


def add(total: Stats, stats: Stats) -> Stats:
  """Of the rows of both, where the first ones lie, which are gone then."""
  lies = [x.sharding for x in jax.tree.leaves(total)]
  free = all(isinstance(each, NamedSharding) and not each.mesh.explicit_axes for each in lies)
  return _added(total, stats, where=tuple(lies) if free else None)


@functools.partial(jax.jit, static_argnames='where', donate_argnums=0)
def _added(total: Stats, stats: Stats, *, where: tuple[Any, ...] | None) -> Stats:
  both = total.merge(stats)
  if where is None:  # on one device, or as types say
    return both
  leaves, treedef = jax.tree.flatten(both)
  return treedef.unflatten(map(lax.with_sharding_constraint, leaves, where))


def _compiled(
  run: Callable[..., Any], function: str, fn: Callable[..., Any], chosen: Sequence[bool], gram: bool
) -> Callable[..., Any]:
  if not callable(fn):
    raise _checks.not_a_function(function, fn)
  key = run, function, tuple(chosen), gram

  def make(fn: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(functools.partial(run, function, fn, chosen, gram), static_argnames='split')

  return _PROGRAMS.of(fn, key, make)


class Capturing:
  """Statistics of all batches together, compiled once for however many params."""

  def __init__(
    self,
    function: str,
    fn: Callable[..., Any],
    chosen: Sequence[bool],
    gram: bool,
    sample_weights: Callable[[Any], Any] | None,
    split: bool = False,
  ) -> None:
    """``split``: whether products are split over the devices on which params or batches lie."""
    self._split = split
    self._chosen = chosen
    self._step = _compiled(_step, function, fn, chosen, gram)
    if sample_weights is not None and not callable(sample_weights):
      raise _errors.sample_weights_not_a_function(function, sample_weights)
    self._fn = fn  # what was compiled goes when it goes
    self._function = function
    self._sample_weights = sample_weights

  def __call__(self, params: Params, batches: Iterable[Any], progress: bool = False) -> Stats:
    _checks.check_batches(self._function, batches)
    total: Stats | None = None
    for number, batch in enumerate(_batches.shown(self._function, batches, progress)):
      stats = self.of(params, *self.arguments(batch), number)
      total = stats if total is None else add(total, stats)
    if total is None:
      raise _checks.no_batches(self._function)
    return total

  def of(
    self,
    params: Params,
    args: Any,
    sample_weights: Any,
    number: int,
    name: Callable[[str], str] = str,
  ) -> Stats:
    """Statistics of one batch; its number and what ``name`` makes of paths are for messages."""
    given = params, args, sample_weights
    stats, finite = self._step(*given, split=_split(jax.tree.leaves(given), self._split))
    _check_finite(self._function, stats, jax.device_get(finite), number, name)
    return stats

  def places(self, params: Params, args: Any) -> Stats:
    """Where leaves are multiplied, without any moments: of shapes, in less time."""
    traced = Traced(self._function, self._fn, params, args, exact=False)
    joint = Joint(traced, Survey(traced, self._chosen, None))
    return Stats((), tuple(joint.uses), tuple(joint.skipped), tuple(joint.notes))

  def shapes(self, params: Params, args: Any, sample_weights: Any) -> Stats:
    """What a batch would give, without running anything."""
    return jax.eval_shape(self._step, params, args, sample_weights)[0]

  def arguments(self, batch: Any) -> tuple[Any, Any]:
    """Of a batch the arguments, and the weights of their tokens, checked."""
    args = batch if isinstance(batch, tuple) else (batch,)
    sample_weights = None if self._sample_weights is None else self._sample_weights(batch)
    return args, _given(self._function, args, sample_weights)


def _given(function: str, args: Any, sample_weights: Any) -> jax.Array | None:
  """The weights as an array; refuses them and arguments that are no arrays."""
  for path, leaf in zip(*tree.flatten(args)[:2]):
    if not tree.is_array(leaf) and not isinstance(leaf, (bool, int, float, complex)):
      raise _errors.argument_no_array(function, path, leaf)
  if sample_weights is None:
    return None
  sample_weights = jnp.asarray(sample_weights)
  if not tree.is_traced(sample_weights) and sample_weights.dtype != jnp.bool_:
    fine, least = jax.device_get(_bounded(sample_weights))
    if not fine:
      raise _errors.bad_sample_weights(function, float(least))
  return sample_weights


@jax.jit
def _bounded(sample_weights: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Whether none is negative or NaN, and the least."""
  return jnp.all(sample_weights >= 0), jnp.min(sample_weights, initial=0)


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


def _split(values: Sequence[Any], products: bool) -> Split | None:
  """Where statistics are to lie, if values lie on several devices."""
  shardings = [getattr(value, 'sharding', None) for value in values]
  named = (each.mesh for each in shardings if isinstance(each, NamedSharding))
  found = (mesh for mesh in named if isinstance(mesh, Mesh) and mesh.size > 1)
  return next((Split(mesh, products) for mesh in found), None)


def _step(
  function: str,
  fn: Any,
  chosen: Sequence[bool],
  gram: bool,
  params: Any,
  args: Any,
  sample_weights: Any,
  split: Split | None = None,
) -> tuple[Stats, jax.Array]:
  _, stats = _run(function, fn, chosen, gram, params, args, sample_weights, split)
  known = [jnp.all(jnp.isfinite(m.mean) & jnp.isfinite(m.squares)) for m in stats.inputs]
  return stats, jnp.stack(known) if known else jnp.ones(0, bool)


def _run(
  function: str,
  fn: Any,
  chosen: Sequence[bool],
  gram: bool,
  params: Any,
  args: Any,
  sample_weights: Any,
  split: Split | None = None,
) -> tuple[Any, Stats]:
  traced = Traced(function, fn, params, args, exact=False)
  tokens = None if sample_weights is None else tokens_of(function, traced, args, sample_weights)
  survey = Survey(traced, chosen, tokens)
  joint = Joint(traced, survey)
  wanted = sorted({survey.parts[i].input for sources in joint.sources for i in sources})
  recorder = Recording(survey, wanted, gram, sample_weights, split)
  outs, found = recorder.run(traced.frame, list(map(jnp.asarray, jax.tree.leaves((params, args)))))
  inputs = [_together([survey.parts[i].of(found) for i in sources]) for sources in joint.sources]
  if split is not None:  # the partitioner may have left products where their inputs lie
    inputs = [split.place(each) for each in inputs]
  stats = Stats(tuple(inputs), tuple(joint.uses), tuple(joint.skipped), tuple(joint.notes))
  return jax.tree.unflatten(traced.out_tree, outs), stats


def _together(found: Sequence[Moments]) -> Moments:
  return functools.reduce(merged, found)


def tokens_of(function: str, traced: Traced, args: Any, sample_weights: Any) -> Sequence[Any]:
  """The dimensions of the argument that the axes of the weights number."""
  shape = np.shape(sample_weights)
  for leaf, dims in zip(jax.tree.leaves(args), traced.inputs):
    if shape and np.shape(leaf)[: len(shape)] == shape:
      return dims[: len(shape)]
  raise _errors.other_tokens(function, shape, [np.shape(leaf) for leaf in jax.tree.leaves(args)])


def _check_finite(
  function: str, stats: Stats, finite: np.ndarray, batch: int, name: Callable[[str], str]
) -> None:
  bad = [(u.source, path) for path, uses in stats.uses for u in uses if not finite[u.source]]
  if bad:  # the first to run: what follows from it is no more finite
    _, path = min(bad, key=lambda each: each[0])
    raise _errors.not_finite_inputs(function, name(path), batch)
