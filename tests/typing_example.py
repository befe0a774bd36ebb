"""A user's script that calls everything once: what type checkers are run on.

It holds no cast and no ignore, and it runs, in a minute. That nothing public is missing in it is
tested in ``test_typing.py``, which runs its cheap parts.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from flax import nnx

import jprune
import jprune.equinox
import jprune.nnx
from jprune.typing import (
  ByPath,
  Distribution,
  LossFn,
  Masks,
  Normalization,
  Params,
  Pattern,
  Reduction,
  Schedule,
  Scope,
  Scorer,
  Scores,
  Sparsities,
  Where,
)


def fn(params: Params, x: jax.Array) -> jax.Array:
  return jax.nn.relu(x @ params['in'] + params['bias']) @ params['out']


def loss(params: Params, batch: jax.Array) -> jax.Array:
  return jnp.mean(jnp.square(fn(params, batch)))


def weights() -> Params:
  first, second = jax.random.split(jax.random.key(0))
  return {
    'bias': jnp.zeros(8),
    'in': jax.random.normal(first, (4, 8)),
    'out': jax.random.normal(second, (8, 4)),
  }


# --------------------------------------------------------------------------------------- everyday


def everyday(folder: pathlib.Path, x: jax.Array) -> None:
  params = weights()
  masks: Masks = jprune.prune(params, sparsity=0.5)
  masks = jprune.prune(params, 0.5, distribution=jprune.distributions.erk, where='in|out')
  masks = jprune.prune(params, pattern=jprune.NOfM(2, 4))
  masks = jprune.prune(params, 0.5, pattern=jprune.Block((2, 2)), masks=masks)
  masks = jprune.prune(params, 0.5, pattern=jprune.Channel(axis=-1))
  masks = jprune.prune(params, 0.5, scorer=jprune.scores.random, key=jax.random.key(1))
  params = jprune.apply(params, masks)
  jprune.save(folder / 'sparse.safetensors', params, masks)
  params, masks = jprune.load(str(folder / 'sparse.safetensors'), like=params)
  jprune.save(folder / 'sharded', params, masks, max_shard_size='5GB')
  with jprune.io.open(folder / 'sparse.safetensors') as checkpoint:
    opened: jprune.io.Checkpoint = checkpoint
    leaf: jprune.io.LazyArray = opened.params['in']
    print(leaf.read().sum(), leaf[0], opened.masks, opened.shards)
    jprune.save(folder / 'again', opened.params, metadata=opened.metadata)
  report: jprune.report.Tally = jprune.tally(params, masks)
  rows: tuple[jprune.report.LeafTally, ...] = report.rows
  sparsest: float = max(row.sparsity for row in rows)
  row: jprune.report.LeafTally = report['in']
  report.save(folder / 'report.html')
  logged: dict[str, float | int] = report.under('in').metrics()
  seen: dict[str, jax.Array] = jax.jit(jprune.report.metrics)(params, masks)
  print(report, sparsest, row.sparsity, logged | {'nonzero': float(seen['nonzero'])})

  masks = jprune.synflow_prune(fn, params, x, sparsity=0.5, rounds=2, progress=False)
  early: Params = weights()
  params = jprune.rewind(params, early, masks)
  params = jprune.sparse_init(params, masks)

  graph: jprune.graph.ChannelGraph = jprune.graph.channels(fn, params, x)
  masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5)
  small: jprune.Shrunk = jprune.shrink(fn, params, masks, x)
  plan: jprune.Plan = small.plan
  fewer: Params = plan.slice(params)
  out: jax.Array = small.fn(fewer, x)
  jprune.save_shrunk(folder / 'small.safetensors', small)
  again: jprune.Shrunk = jprune.load_shrunk(folder / 'small.safetensors', fn)
  print(plan, out.shape, again.params)


# ------------------------------------------------------------------------------ masks and patterns


class Columns:
  """A pattern of the user's own."""

  def check(self, function: str, path: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 2:
      raise ValueError(f'{function}: Columns needs matrices; got {shape} at {path}.')

  def unit_scores(self, scores: jax.Array) -> jax.Array:
    return jnp.nanmean(scores, axis=0)

  def expand(self, units: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.broadcast_to(units, shape)


def selecting(x: jax.Array) -> None:
  params = weights()
  scores: Scores = jprune.scores.magnitude(params)
  sparsities: Sparsities = {'in': 0.5, 'out': 0.25}
  own: Pattern = Columns()
  graph = jprune.graph.channels(fn, params, x)
  scope: Scope = 'global'
  reduce: Reduction = 'l2'
  normalize: Normalization = 'max'
  groups = jprune.ChannelGroups(graph, scope=scope, reduce=reduce, normalize=normalize)
  tx = jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=10, pattern=groups)
  print(jprune.transforms.masks_of(tx.init(params))['in'].shape)
  some: list[Masks] = [
    jprune.masks.top_k(scores, sparsities),
    jprune.masks.top_k({'in': scores['in'], 'out': scores['out']}, 0.5, pattern=own),
    jprune.masks.top_k_global(scores, 0.5, pattern=jprune.Unstructured()),
    jprune.masks.top_k_rows(scores, sparsities, axis=0),
    jprune.masks.n_of_m({'in': scores['in']}, 2, 4, axis=0),
    jprune.masks.threshold(scores, 0.5),
    jprune.masks.bernoulli(params, 0.5, key=jax.random.key(0)),
    jprune.masks.from_zeros(params),
    jprune.masks.channels(scores, graph, round_to=2, target_params=0.8),
  ]
  masks = jprune.masks.combine(some[0], jprune.masks.invert(some[3]))
  packed: Masks = jprune.masks.pack(masks)
  leaf: jprune.masks.PackedMask = packed['in']
  print(leaf.unpack().shape, jprune.masks.unpack(packed)['in'].sum())
  seen: Params = jprune.masks.straight_through(params, masks)
  print(jax.tree.structure(seen))


def spread(params: Params) -> None:
  scores = jprune.scores.lamp(params)
  same: Sparsities = jprune.distributions.uniform(params, scores, 0.5)
  together: Sparsities = jprune.distributions.global_(params, scores, 0.5)
  outliers: Sparsities = jprune.distributions.owl(params, scores, 0.5, m=5.0)
  listed: Distribution = jprune.distributions.fixed({'in': 0.5})
  print(same, together, outliers, jprune.prune(params, distribution=listed))
  jprune.prune(params, 0.5, distribution=jprune.distributions.er)

  def spare_small(params: Params, scores: Scores, sparsity: float) -> Sparsities:
    return jax.tree.map(lambda score: sparsity if score.size > 4 else sparsity / 2, scores)

  mine: Distribution = spare_small
  jprune.prune(params, 0.5, distribution=mine)


# ----------------------------------------------------------------------------------------- scores


def scoring(x: jax.Array) -> None:
  params = weights()
  loss_fn: LossFn = loss
  grads: Params = jax.grad(loss)(params, x)
  out, stats = jprune.graph.capture(fn, params, x, gram=True)
  graph = jprune.graph.channels(fn, params, x)
  key = jax.random.key(0)
  each: dict[str, Scores] = {
    'magnitude': jprune.scores.magnitude(params, p=2),
    'random': jprune.scores.random(params, key=key),
    'lamp': jprune.scores.lamp(params),
    'geometric_median': jprune.scores.geometric_median(params, axis=-1),
    'taylor': jprune.scores.taylor(params, grads),
    'taylor_batches': jprune.scores.taylor_batches(params, loss_fn, x, progress=False),
    'taylor_samples': jprune.scores.taylor_samples(params, loss_fn, x, progress=False),
    'snip': jprune.scores.snip(params, loss_fn, x, progress=False),
    'grasp': jprune.scores.grasp(params, loss_fn, x, progress=False),
    'fisher': jprune.scores.fisher(params, loss_fn, x, progress=False),
    'obd': jprune.scores.obd(params, loss_fn, x, key=key, samples=1, progress=False),
    'synflow': jprune.scores.synflow(params, fn, x),
    'wanda': jprune.scores.wanda(params, stats),
    'ria': jprune.scores.ria(params, stats, a=0.5),
    'obs': jprune.scores.obs(params, stats),
    'correlation': jprune.scores.correlation(params, stats),
    'activation': jprune.scores.activation(params, stats),
    'activation_mean': jprune.scores.activation_mean(params, stats),
    'activation_active': jprune.scores.activation_active(params, stats),
    'independence': jprune.scores.independence(params, stats, graph),
  }
  print(out.shape, sorted(each))

  def grown(params: Params, *, initial: Params) -> Scores:
    return jax.tree.map(lambda now, then: jnp.abs(now) - jnp.abs(then), params, initial)

  scorer: Scorer = grown
  jprune.prune(params, 0.5, scorer=scorer, initial=params)
  jprune.prune(params, 0.5, scorer=each['wanda'])


# ----------------------------------------------------------------------------- what a function does


def looking(x: jax.Array) -> None:
  params = weights()
  graph = jprune.graph.channels(fn, params, x, small_outputs=None)
  group: jprune.graph.Group = graph.groups[0]
  member: jprune.graph.Member = group.members[0]
  position: jprune.graph.Position = member.position
  frozen: Mapping[tuple[str, int], str] = graph.frozen
  print(group.name, group.size, member.path, member.axis, position.units, len(frozen))

  roles: jprune.graph.Roles = jprune.graph.roles(fn, params, x)
  role: jprune.graph.Role = roles['in']
  factors: tuple[jprune.graph.Factor, ...] = role.factors
  print(role.kind, [factor.size for factor in factors])

  masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5)
  count: jprune.graph.MacCount = jprune.graph.macs(fn, params, x, masks=masks)
  product: jprune.graph.Product = count.equations[0]
  macs: jprune.graph.Macs = product.macs
  print(count, macs.dense - macs.sparse, product.leaf)

  _, stats = jprune.graph.capture(fn, params, x, sample_weights=jnp.ones(len(x)))
  seen: jprune.graph.Stats = jprune.graph.capture_batches(fn, params, [x, x], progress=False)
  pairs: tuple[tuple[jprune.graph.Use, jprune.graph.Moments], ...] = seen['in']
  (use, moments), *_ = pairs
  print(use.sizes, moments.mean.shape, stats.skipped)

  found: jprune.graph.Verification = jprune.graph.verify(fn, params, masks, x)
  print(found, found.relative < 1e-3)


# ----------------------------------------------------------------------------------------- repair


def repairing(x: jax.Array) -> None:
  params = weights()
  _, stats = jprune.graph.capture(fn, params, x, gram=True)
  scores = jprune.scores.wanda(params, stats)
  masks = jprune.reconstruct.per_output(scores, stats, 0.5)
  small, masks, report = jprune.reconstruct.least_squares(params, stats, masks)
  small, masks, report = jprune.reconstruct.sparsegpt(params, stats, 0.5)
  small, masks, report = jprune.reconstruct.alps(params, stats, 0.5, iterations=5)
  small, masks, report = jprune.reconstruct.prune(fn, params, [x], sparsity=0.5, progress=False)
  small, masks, report = jprune.reconstruct.prune(
    fn, params, iter([x]), sparsity=0.5, sequential=True, cache_dir='/tmp', progress=False
  )
  passes: float = report.passes
  with jprune.io.open('model') as model:
    jprune.prune(model, 0.5)
    pruned, masks, report = jprune.reconstruct.prune(
      fn, model, [x], sparsity=0.5, sequential=True, out='pruned', max_shard_size='5GB'
    )
    pruned.close()
  repair: jprune.reconstruct.Repair = report
  told: jprune.reconstruct.Plan = jprune.reconstruct.plan(fn, params, x, sequential=True)
  stage: jprune.reconstruct.StagePlan = told.stages[0]
  row: jprune.reconstruct.LeafRepair = repair['in']
  print(repair, passes, row.error_after < row.error_before, jax.tree.structure((small, masks)))
  print(told, told.peak_bytes, stage.unit_bytes)


# --------------------------------------------------------------------------------------- training


def by_gradient(step: jprune.transforms.Step) -> tuple[ByPath, Any]:
  return step.best({path: jnp.abs(g) for path, g in step.grads.items()}), ()


def training(x: jax.Array) -> None:
  params = weights()
  inner, key = optax.adam(1e-2), jax.random.key(0)
  where: Where = 'in|out'
  settings: jprune.transforms.Settings = {'where': where, 'scorer': jprune.scores.taylor}
  besides: jprune.transforms.SettingsAndPattern = {'pattern': jprune.NOfM(2, 4)}
  own: jprune.transforms.SettingsAndDistribution = {'packed': True}
  rising: Schedule = jprune.schedules.cubic(0.0, 0.5, begin=0, end=4)
  drop = jprune.schedules.cosine(0.3, 0.0, begin=0, end=4)
  method = jprune.transforms.Method('by_gradient', by_gradient, regrows=True)
  masks = jprune.prune(params, 0.5)
  two_of_four = jprune.NOfM(2, 4)
  graph = jprune.graph.channels(fn, params, x)
  of = jprune.transforms
  all_of_them: dict[str, optax.GradientTransformationExtraArgs] = {
    'keep_pruned': jprune.keep_pruned(masks),
    'mask_updates': jprune.mask_updates(masks),
    'gradual': of.gradual(inner, rising, every=2, **settings),
    'sparse_training': of.sparse_training(method, inner, 0.5, every=2, where=where),
    'ac_dc': of.ac_dc(inner, 0.5, every=2, begin=0, end=4),
    'admm': of.admm(inner, 0.5, end=4, every=2),
    'movement': of.movement(inner, rising, every=2, end=4),
    'soft_movement': of.soft_movement(inner, 0.1, every=2, pull=rising, end=4),
    'straight_through': of.straight_through(inner, 0.5, every=2),
    'sr_ste': of.sr_ste(inner, pattern=two_of_four, decay=2e-4),
    's_ste': of.s_ste(inner, pattern=two_of_four, **own),
    'static': of.static(inner, 0.5, key=key),
    'sparse_evolution': of.sparse_evolution(inner, 0.5, every=2, key=key, drop=drop),
    'rigl': of.rigl(inner, 0.5, every=2, key=key, end=4, drop=drop),
    'granet': of.granet(inner, rising, every=2, key=key),
    'mest': of.mest(inner, 0.5, every=2, key=key, weight=1.0, **besides),
    'srigl': of.srigl(inner, 0.5, every=2, key=key, ablate=graph),
    'batch_norm_scale': of.batch_norm_scale(1e-4, where='in'),
    'group_lasso': of.group_lasso(1e-4, graph),
    'growing': of.growing(masks, delta=1e-4),
  }
  print(len(all_of_them))

  tx = optax.chain(inner, all_of_them['keep_pruned'])
  of.check(tx, params, calls=8)
  state = tx.init(params)
  updates, state = tx.update(jax.grad(loss)(params, x), state, params)
  params = optax.apply_updates(params, updates)

  tx = all_of_them['rigl']
  state = tx.init(params)
  recorder = jprune.report.Recorder()
  for _ in range(2):
    updates, state = tx.update(jax.grad(loss)(params, x), state, params)
    params = optax.apply_updates(params, updates)
    recorder.add(state)
  told: dict[str, jax.Array] = of.metrics(state)
  print(recorder, of.masks_of(state, params), told)


def states(state: Any) -> str:
  """What a state tells, whichever it is."""
  if isinstance(state, jprune.transforms.SparseState):
    return f'{state.count} {state.churn}'
  if isinstance(state, jprune.transforms.GrowingState):
    return f'{state.count} {state.keep}'
  if isinstance(state, jprune.transforms.PenaltyState):
    return f'{state.count}'
  kinds = jprune.transforms.KeepPrunedState, jprune.transforms.MaskUpdatesState
  return f'{state.masks}' if isinstance(state, kinds) else ''


def scheduling() -> list[float]:
  s = jprune.schedules
  rising = s.linear(0.0, 0.5, begin=0, end=10)
  each: list[Schedule] = [
    s.constant(0.5),
    s.cosine(0.0, 0.5, 0, 10),
    s.exponential(0.0, 0.5, 0, 10),
    s.sigmoid(0.0, 0.5, 0, 10, steepness=6.0),
    s.one_shot(0.5, at=5),
    s.delayed(rising, by=3),
    s.every(rising, steps=2),
    s.joined([rising, s.constant(0.5)], [10]),
  ]
  return [float(schedule(5)) for schedule in each]


# ------------------------------------------------------------------------------------ sensitivity


def measuring(x: jax.Array) -> None:
  params = weights()
  wanted = fn(params, x)
  evaluate: Callable[[Params], float] = lambda p: -float(jnp.abs(fn(p, x) - wanted).mean())
  found: jprune.sensitivity.Sensitivity = jprune.sensitivity.curves(
    evaluate, params, (0.0, 0.5), progress=False
  )
  curve: jprune.sensitivity.Curve = found.curves[0]
  shares: jprune.sensitivity.Allocation = jprune.sensitivity.allocate(found, sparsity=0.25)
  share: jprune.sensitivity.Share = shares.rows[0]
  print(curve.name, share.sparsity, jprune.sensitivity.accuracy_threshold(0.9, 0.95))
  prune_at: Callable[[float], Params] = lambda s: jprune.apply(params, jprune.prune(params, s))
  searched: jprune.sensitivity.Search = jprune.sensitivity.search(
    evaluate, prune_at, min_metric=-1.0, tolerance=0.25, progress=False
  )
  trials: tuple[jprune.sensitivity.Trial, ...] = searched.trials
  result: jprune.sensitivity.Result = jprune.sensitivity.run(
    evaluate, params, sparsity=0.5, fn=fn, args=(x,), progress=False
  )
  step: jprune.sensitivity.Step = result.steps[-1]
  print(result, step.metric, [trial.holds for trial in trials])


# ------------------------------------------------------------------------------------------ trees


def trees(params: Params) -> None:
  t = jprune.tree
  paths, leaves, treedef = t.flatten(params)
  kinds = [(t.is_array(x), t.is_complex(x), t.is_floating(x), t.is_inexact(x)) for x in leaves]
  shapes: dict[str, tuple[int, ...]] = t.shapes(params)
  chosen: list[bool] = t.selected(params, [re.compile('in'), 'out'])
  same: list[bool] = t.matching(params, lambda path, leaf: leaf.ndim == 2)
  print(kinds, shapes, chosen, same, t.is_traced(*leaves), [t.size(leaf) for leaf in leaves])
  print([t.default_where(path, leaf) for path, leaf in zip(paths, leaves, strict=True)])
  print(t.skipped(params), t.state_by_name(params))
  values: list[Any] = t.by_leaf(params, {'in': 0.5})
  beside: list[Any] = t.along(params, params)
  key_path, _ = jax.tree_util.tree_flatten_with_path(params)[0][0]
  print(values, len(beside), t.path_string(key_path), treedef)


# -------------------------------------------------------------------------------------- frameworks


def modules(x: jax.Array) -> None:
  model = nnx.Sequential(
    nnx.Linear(4, 8, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(8, 4, rngs=nnx.Rngs(1))
  )
  call, params = jprune.nnx.functional(model)
  pruned: nnx.Sequential = jprune.nnx.merge(model, jprune.apply(params, jprune.prune(params, 0.5)))
  graph = jprune.graph.channels(call, params, x)
  masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5)
  small: nnx.Sequential = jprune.nnx.shrunk(model, jprune.shrink(call, params, masks, x))
  print(pruned(x).shape, small(x).shape)

  perceptron = eqx.nn.MLP(4, 4, 8, depth=1, key=jax.random.key(0))
  call, params = jprune.equinox.functional(perceptron)
  graph = jprune.graph.channels(call, params, x[0])
  masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5)
  less: jprune.equinox.SmallModule = jprune.equinox.shrunk(
    perceptron, jprune.shrink(call, params, masks, x[0])
  )
  print(less(x[0]).shape)


def main(folder: pathlib.Path) -> None:
  x = jax.random.normal(jax.random.key(2), (16, 4))
  everyday(folder, x)
  selecting(x)
  spread(weights())
  scoring(x)
  looking(x)
  repairing(x)
  training(x)
  print(scheduling(), states(None))
  measuring(x)
  trees(weights())
  modules(x)
