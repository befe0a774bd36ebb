"""A slow oracle: before each stage the whole model is run anew, with what was pruned so far."""

import jax

import jprune
from jprune import tree
from jprune.reconstruct import _stages
from jprune.reconstruct._run import Run


def recaptured(fn, params, batches, sparsity, method=jprune.reconstruct.sparsegpt, weights=None):
  """``reconstruct.prune(..., sequential=True)``, and how many stages there were."""
  capture = lambda params: jprune.graph.capture_batches(
    fn, params, batches, gram=True, sample_weights=weights, progress=False
  )
  shapes = capture(params)
  usable = [path for path, uses in shapes.uses if all(use.direct for use in uses)]
  none = [None] * len(tree.flatten(params)[0])
  scorer = jprune.scores.wanda
  run = Run(
    params, sparsity, jprune.masks.Unstructured(), method, scorer, usable, none, dict(shapes.uses)
  )
  run.distribute(jprune.distributions.uniform, [None])
  stages = _stages.in_turn(_stages.groups_of(shapes, usable), shapes)
  for stage in stages:
    run.stage(stage, _stages.stats_of(stage, capture(run.params)))
  params, masks, report = run.result((), 0.0)
  return jax.tree.map(jax.numpy.asarray, params), masks, report, len(stages)
