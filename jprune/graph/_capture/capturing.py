"""One function, captured on many batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding

from jprune import _batches, _checks, tree
from jprune.graph import _errors
from jprune.graph._analysis.traced import Traced
from jprune.graph._capture.coverage import Joint
from jprune.graph._capture.find_products import Survey
from jprune.graph._capture.recorder import Recording
from jprune.graph._program.compiled import Compiled
from jprune.graph._statistics.moments import Moments, merged
from jprune.graph._statistics.split import Split
from jprune.graph._statistics.stats import Stats
from jprune.typing import Params

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


def compiled_for(
  run: Callable[..., Any], function: str, fn: Callable[..., Any], chosen: Sequence[bool], gram: bool
) -> Callable[..., Any]:
  if not callable(fn):
    raise _checks.not_a_function(function, fn)
  key = run, function, tuple(chosen), gram

  def make(fn: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(functools.partial(run, function, fn, chosen, gram), static_argnames='spread')

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
    self._step = compiled_for(_step, function, fn, chosen, gram)
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
    stats, finite = self._step(*given, spread=split_of(jax.tree.leaves(given), self._split))
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
    return args, given_weights(self._function, args, sample_weights)


def given_weights(function: str, args: Any, sample_weights: Any) -> jax.Array | None:
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


def split_of(values: Sequence[Any], products: bool) -> Split | None:
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
  spread: Split | None = None,
) -> tuple[Stats, jax.Array]:
  _, stats = run_once(function, fn, chosen, gram, params, args, sample_weights, spread)
  known = [jnp.all(jnp.isfinite(m.mean) & jnp.isfinite(m.squares)) for m in stats.inputs]
  return stats, jnp.stack(known) if known else jnp.ones(0, bool)


def run_once(
  function: str,
  fn: Any,
  chosen: Sequence[bool],
  gram: bool,
  params: Any,
  args: Any,
  sample_weights: Any,
  spread: Split | None = None,
) -> tuple[Any, Stats]:
  traced = Traced(function, fn, params, args, exact=False)
  tokens = None if sample_weights is None else tokens_of(function, traced, args, sample_weights)
  survey = Survey(traced, chosen, tokens)
  joint = Joint(traced, survey)
  wanted = sorted({survey.parts[i].input for sources in joint.sources for i in sources})
  recorder = Recording(survey, wanted, gram, sample_weights, spread)
  outs, found = recorder.run(traced.frame, list(map(jnp.asarray, jax.tree.leaves((params, args)))))
  inputs = [_together([survey.parts[i].of(found) for i in sources]) for sources in joint.sources]
  if spread is not None:  # the partitioner may have left products where their inputs lie
    inputs = [spread.place(each) for each in inputs]
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
