"""A whole model in one call: capture, choose, repair."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import os
from collections.abc import Callable, Iterable
from typing import Any

import jax

from jprune import _batches, _checks, distributions, scores, tree
from jprune._entry import public
from jprune._signature import readable
from jprune.distributions._needs import needs_of
from jprune.graph._statistics.stats import Stats
from jprune.io import Checkpoint
from jprune.io._open import open_for
from jprune.io._rewrite import rewriting
from jprune.masks import NOfM, Unstructured, apply
from jprune.reconstruct import _errors, _leaves, _matrix_solvers, _scorers, _stages
from jprune.reconstruct._caches import Caches
from jprune.reconstruct._in_files import InFiles, in_memory_types
from jprune.reconstruct._least_squares import least_squares
from jprune.reconstruct._model import Model
from jprune.reconstruct._one_pass import in_one_pass
from jprune.reconstruct._report import Repair
from jprune.reconstruct._run import NAME, Run
from jprune.reconstruct._sparsegpt import sparsegpt
from jprune.typing import Distribution, Masks, Params, Scorer, Where


@readable
@functools.partial(public, name='reconstruct.prune', opened=True, runs=True)
def prune(
  fn: Callable[..., Any],
  params: Params,
  batches: Iterable[Any],
  *,
  sparsity: float | None = None,
  pattern: Unstructured | NOfM = Unstructured(),
  method: Callable[..., Any] | None = sparsegpt,
  scorer: Scorer = scores.wanda,
  distribution: Distribution = distributions.uniform,
  where: Where = None,
  masks: Masks = None,
  sample_weights: Callable[[Any], Any] | None = None,
  sequential: bool = False,
  chunked: bool = False,
  cache_dir: str | os.PathLike[str] | None = None,
  out: str | os.PathLike[str] | None = None,
  max_shard_size: int | str = '5GB',
  progress: bool = True,
) -> tuple[Params, Masks, Repair]:
  """Prunes a trained model in one shot, without training, and repairs what is left.

  Runs the model on the batches, collects what each leaf is multiplied by
  (:func:`jprune.graph.capture`), and prunes leaf by leaf such that the outputs of each product
  change as little as can be. Compiled once for each function and each shape of a leaf, in all calls
  with them, as :func:`jprune.graph.capture` is, which says what is assumed of ``fn``.

  Args:
    fn: ``fn(params, *batch)``, any function that JAX traces.
    params: tree of arrays; or what :func:`jprune.io.open` gives of a model that may be larger than
      memory: leaves are read when their turn comes, and written to ``out``. ``fn`` is given the
      tree of its ``params``. In one process, with ``sequential``, a distribution by shapes, and
      without ``masks``.
    batches: an iterable of batches; a tuple holds several arguments, all else is one. A list or a
      loader that can be iterated over again, if they are needed again (``chunked`` without
      ``sequential``).
    sparsity: fraction of zeros in [0, 1], over the leaves that are pruned. Not for
      :class:`~jprune.masks.NOfM`.
    pattern: ``Unstructured()``, or an ``NOfM`` along an axis that the products sum over.
    method: :func:`sparsegpt`, :func:`alps`, or a function that is called as they are (options bound
      with ``functools.partial``); :func:`least_squares` to choose masks by ``scorer``, the same
      number for each output, and to refit what they keep; ``None`` to choose such masks alone.
    scorer: for ``least_squares`` and ``None``, and for distributions that look at scores: a
      function of params, and of ``stats``, with Gram matrices, if it takes them.
    distribution: what each leaf contributes, as for :func:`jprune.prune`.
    where: selects the leaves, as for :func:`jprune.prune`.
    masks: of an earlier round; they are applied before the model is run. What they pruned stays
      pruned, under any method, and counts towards the sparsity: a leaf that is sparser already
      stays so, and an ``NOfM`` keeps at most ``n`` of every group. Leaves that are not pruned keep
      their mask.
    sample_weights: ``sample_weights(batch)`` are weights of tokens, such as a padding mask.
    sequential: whether to prune stage by stage, each from what the stages before it left of the
      model, so that what comes later makes up for what was pruned before; leaves that share their
      inputs are one stage, and a scan over layers goes layer by layer. The model is run piece by
      piece, about once in all: what is alive between two pieces waits on the host. Pieces that
      are alike, such as layers, are compiled once. ``fn`` may not have effects.
    chunked: whether to hold the Gram matrices of one group of leaves at a time, those that share
      their inputs, with a pass over the batches (and a compilation) for each; two passes if the
      distribution looks at scores of statistics. ``sequential`` does so by itself, but for such
      a distribution.
    cache_dir: of ``sequential`` alone: an existing folder for what waits between two pieces, the
      batches and activations of all of them; by default they wait in the memory of the host. Files
      are deleted at the end.
    out: for params of a checkpoint, and for these alone: the folder that the pruned ones are
      written to, in the layout of Hugging Face, stored dense; files appear at the end. What lies
      beside the files of a set, such as ``config.json``, is copied.
    max_shard_size: of the files in ``out``, in bytes or as ``'5GB'``.
    progress: whether to show bars, if tqdm is installed.

  Returns:
    ``(params, masks, report)``: params of the same shapes and dtypes with exactly 0.0 where pruned;
    bool masks, for other leaves the earlier ones or ``None``; a :class:`Repair`, in which selected
    leaves that could not be pruned stand with the reason, those that no batch makes use of among
    them. For a checkpoint the one in ``out``, opened; and masks on the host, packed as by
    :func:`jprune.masks.pack`.

  Raises:
    ValueError: if nothing is selected, no selected leaf is multiplied by anything, there is no
      batch, activations are not finite (leaf and batch are named), a sparsity is outside [0, 1],
      the pattern doesn't fit a leaf, a repaired weight is too large for the leaf's dtype,
      a checkpoint is pruned in a way that needs all of it at once, or ``cache_dir`` is given
      without ``sequential``.
    OSError: if ``out`` can't be written, or there is no ``cache_dir``.
    TypeError: if ``fn`` is no function or can't be traced, an argument is of another type, or
      batches that can be read once are needed again.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> params = {'in': jax.random.normal(keys[0], (8, 16)), 'out': jnp.ones((16, 4))}
    >>> batches = [jax.random.normal(keys[1], (64, 8)), jax.random.normal(keys[2], (64, 8))]
    >>> small, masks, report = prune(fn, params, batches, sparsity=0.5)
    >>> int((small['in'] == 0).sum()), report['in'].error_after < report['in'].error_before
    (64, True)
  """
  _check(sparsity, pattern, distribution, method, masks is not None)
  checkpoint = params if isinstance(params, Checkpoint) else None
  _errors.check_out(NAME, checkpoint, out)
  _errors.check_cache_dir(NAME, cache_dir, sequential)
  if checkpoint is not None:
    _check_checkpoint(sequential, masks, distribution)
    params = in_memory_types(checkpoint)
  held = _matrix_solvers.earlier(NAME, params, masks)
  if masks is not None:
    params = apply(params, tree.flatten(params)[2].unflatten(held))
  by_stats = _scorers.takes_stats(NAME, scorer)
  selected = _leaves.real(NAME, params, where)
  model = Model(NAME, fn, params, batches, sample_weights, again=chunked and not sequential)
  shapes = model.shapes(params, selected)
  usable, why = _leaves.usable(shapes)
  _check_leaves(params, shapes, usable, why, pattern)
  with contextlib.ExitStack() as stack:
    files = None
    if checkpoint is not None:
      writing = rewriting(NAME, checkpoint, out or '', max_shard_size, 'out')
      files = InFiles(checkpoint, stack.enter_context(writing))
    caches = stack.enter_context(Caches(cache_dir))
    kept = model.keep(caches, progress) if sequential else []
    run = Run(params, sparsity, pattern, method, scorer, usable, held, dict(shapes.uses), files)
    groups = _stages.groups_of(shapes, usable)
    stats = None if sequential or chunked else model.captured(usable, params, progress)
    if not isinstance(pattern, NOfM):
      parts = [group.paths for group in groups] if chunked else [usable]
      each = lambda paths: stats or model.captured(paths, params, progress)
      run.distribute(distribution, map(each, parts) if by_stats else [None])
    stages = _stages.stages_of(groups, shapes, sequential, chunked)
    if stats is not None:
      found = itertools.repeat(stats)
    elif not sequential:
      found = (model.captured(stage.paths, params) for stage in stages)
    else:
      found = in_one_pass(model, run, selected, stages, shapes, kept, caches)
    for stage in _batches.shown(NAME, stages, progress, unit='stage'):
      run.stage(stage, next(found))
    done = run.result(why, model.passes)
  return done if checkpoint is None else (open_for(NAME, out), *done[1:])


def _check_checkpoint(sequential: bool, masks: Any, distribution: Any) -> None:
  """Refuses what would need all of a checkpoint at once, or several who write one."""
  if (count := jax.process_count()) > 1:
    raise _errors.checkpoint_of_one_process(NAME, count)
  if not sequential:
    raise _errors.checkpoint_in_turn(NAME)
  if masks is not None:
    raise _errors.checkpoint_masked(NAME)
  if needs_of(distribution).needs_scores:
    raise _checks.opened_distribution(NAME, distribution)


def _check_leaves(
  params: Params, shapes: Stats, usable: list[str], why: list[tuple[str, str]], pattern: Any
) -> None:
  if not usable:
    raise _errors.nothing_captured(NAME, why)
  for path, leaf in zip(*tree.flatten(params)[:2]):
    if path in usable:
      _matrix_solvers.check_pattern(NAME, path, leaf, shapes[path], pattern)


def _check(sparsity: Any, pattern: Any, distribution: Any, method: Any, with_masks: bool) -> None:
  _check_method(method, {'masks': None} if with_masks else {})
  _checks.check_distribution(NAME, distribution)
  _checks.check_pattern(NAME, pattern)
  if not isinstance(pattern, (Unstructured, NOfM)):
    raise _errors.not_repairable_pattern(NAME, pattern)
  _checks.check_measured_pattern(NAME, distribution, pattern)
  if isinstance(pattern, NOfM):
    if not needs_of(distribution).shares_alike:
      raise _checks.pattern_shares_alike(NAME, pattern)
    if sparsity is not None:
      raise _checks.pattern_has_sparsity(NAME, pattern, sparsity)
  elif sparsity is not None:
    _checks.check_fraction(NAME, 'sparsity', sparsity)
  elif needs_of(distribution).needs_sparsity:
    raise _checks.no_sparsity(NAME)


def _check_method(method: Any, more: dict[str, Any]) -> None:
  if method is None or getattr(method, 'func', method) is least_squares:
    return
  if not callable(method):
    raise _errors.bad_method(NAME, method)
  try:
    inspect.signature(method).bind(None, None, None, pattern=None, where=None, **more)
  except TypeError as error:
    raise _errors.bad_call(NAME, method, str(error)) from None
  except ValueError:  # a builtin without a signature
    pass
