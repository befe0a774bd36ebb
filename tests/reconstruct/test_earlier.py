"""Earlier masks hold under every method: what was pruned stays pruned, and counts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune import distributions, reconstruct, scores
from jprune.masks import NOfM, pack
from jprune.reconstruct import alps, least_squares, per_output, sparsegpt
from tests import reference_repair as reference
from tests.reconstruct.test_prune import WIDTH, stacked
from tests.stats import of_inputs

GROUPS = NOfM(2, 4)
METHODS = [
  (sparsegpt, None),
  (sparsegpt, GROUPS),
  (functools.partial(sparsegpt, per_output=True, block=5), None),
  (functools.partial(alps, iterations=20), None),
  (functools.partial(alps, iterations=20), GROUPS),
  (functools.partial(alps, iterations=20, per_output=True), None),
  (least_squares, None),
  (None, GROUPS),
]
SPARSITY = 0.6


def fn(params, x):
  return jnp.tanh(x @ params['in']) @ params['out']


@pytest.fixture(scope='module')
def model():
  """Params, masks that pruned very different numbers of leaves, layers and outputs, and batches."""
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape) / 4, jnp.float32)
  params = {'bias': draw(4), 'in': draw(WIDTH, WIDTH), 'out': draw(WIDTH, WIDTH)}
  return params, thinned(rng, params), [draw(64, WIDTH), draw(64, WIDTH)]


def thinned(rng, params):
  rate = iter(np.linspace(0.9, 0.1, 7))
  thin = lambda x: jnp.asarray(rng.random(x.shape) > next(rate) * np.linspace(0, 1.1, x.shape[-1]))
  return jax.tree.map(lambda x: thin(x) if x.ndim > 1 else None, params)


def check(before, new, masks, pattern):
  at = lambda tree: jax.tree.leaves(tree, is_leaf=lambda x: x is None)
  for old, mask, found in zip(at(before), at(masks), at(new)):
    if found.ndim < 2:
      assert mask is None
      continue
    old = np.ones(found.shape, bool) if old is None else np.asarray(old)
    mask = np.asarray(mask)
    assert not (mask & ~old).any()
    assert not np.asarray(found)[~mask].any()
    if pattern is None:
      assert (~mask).sum() == max(round(SPARSITY * mask.size), (~old).sum())
    else:
      groups = lambda x: np.moveaxis(x, -2, -1).reshape(-1, 4).sum(1)
      np.testing.assert_array_equal(groups(mask), np.minimum(groups(old), 2))


@pytest.mark.parametrize(('method', 'pattern'), METHODS, ids=range(len(METHODS)))
def test_every_method_holds_them(model, method, pattern):
  params, before, batches = model
  how = {'sparsity': SPARSITY} if pattern is None else {'pattern': pattern}
  call = functools.partial(reconstruct.prune, fn, method=method, progress=False, **how)
  new, masks, report = call(params, batches, masks=pack(before))
  check(before, new, masks, pattern)
  pruned = sum(int((~mask).sum()) for mask in jax.tree.leaves(masks))
  assert sum(row.pruned for row in report.rows) == pruned
  if method is least_squares:  # the others choose other weights than are compared with
    assert all(row.error_after <= row.error_before * 1.001 for row in report.rows)
  if method is sparsegpt:  # there is nothing left to do
    again = call(new, batches, masks=masks)
    for one, two in zip(jax.tree.leaves((new, masks)), jax.tree.leaves(again[:2])):
      np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(('pattern', 'chunked'), [(None, True), (GROUPS, False)], ids=str)
def test_step_by_step_through_a_scan(model, pattern, chunked):
  rng = np.random.default_rng(1)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape) / 4, jnp.float32)
  layers = {'up': draw(3, WIDTH, WIDTH), 'down': draw(3, WIDTH, WIDTH)}
  params = {'layers': layers, 'head': draw(WIDTH, WIDTH)}
  before = {**thinned(rng, params), 'head': None}
  before['layers']['up'] = before['layers']['up'].at[0].set(False).at[1].set(True)
  how = {'sparsity': SPARSITY} if pattern is None else {'pattern': pattern}
  new, masks, _ = reconstruct.prune(
    stacked, params, model[2], masks=before, sequential=True, chunked=chunked, progress=False, **how
  )
  check(before, new, masks, pattern)


@pytest.mark.parametrize('how', [{}, {'block': 20}, {'n_of_m': (2, 4), 'block': 20}], ids=str)
def test_agrees_with_the_published_algorithm(how):
  rng = np.random.default_rng(0)
  x = reference.decaying(rng, 400, 60, 0.5).astype(np.float32)
  w = rng.normal(size=(60, 30)).astype(np.float32)
  alive = rng.random(w.shape) > np.linspace(0, 0.9, 60)[:, None]
  sparsity = None if 'n_of_m' in how else 0.7
  expected, mask = reference.sparsegpt(w, x, sparsity, alive=alive, **how)
  pattern = {'pattern': NOfM(*how.pop('n_of_m'))} if 'n_of_m' in how else {}
  stats = of_inputs({'w': x}, {'w': 30})
  new, masks, _ = sparsegpt({'w': w}, stats, sparsity, masks={'w': alive}, **how, **pattern)
  assert not (np.asarray(masks['w']) & ~alive).any()
  assert (np.asarray(masks['w']) == mask).mean() >= 0.999
  error = reference.relative_error(x, w, expected)
  assert reference.relative_error(x, w, new['w']) == pytest.approx(error, rel=0.01)


@pytest.mark.parametrize('sparsity', [0.1, 0.5, 0.63, 0.9])
def test_outputs_that_lost_more_stay_so_and_the_others_share_the_rest(sparsity):
  rng = np.random.default_rng(1)
  found = np.round(rng.normal(size=(12, 9)), 1).astype(np.float32)  # with ties
  alive = rng.random(found.shape) > np.linspace(0, 0.9, 9)
  stats = of_inputs({'w': rng.normal(size=(4, 12)).astype(np.float32)}, {'w': 9})
  masks = per_output({'w': found}, stats, sparsity, masks={'w': alive})
  flat = np.arange(found.size).reshape(1, *found.shape)
  expected = reference.per_output(found[None], flat, sparsity, alive[None])[0]
  np.testing.assert_array_equal(masks['w'], expected)


def test_what_is_not_selected_keeps_its_mask_and_values_under_a_mask_go(model):
  params, before, batches = model
  stats = jprune.graph.capture_batches(fn, params, batches, gram=True, progress=False)
  for method in (sparsegpt, functools.partial(alps, iterations=10)):
    new, masks, _ = method(params, stats, 0.0, where='out', masks=pack(before))
    for mask, old in zip(jax.tree.leaves(masks), jax.tree.leaves(before)):
      np.testing.assert_array_equal(mask, old)
    for one, two in zip(jax.tree.leaves(new), jax.tree.leaves(jprune.apply(new, before))):
      np.testing.assert_array_equal(one, two)
    assert not bool((new['out'] == jprune.apply(params, before)['out']).all())  # made up for


def test_one_threshold_over_all_counts_them(model):
  params, before, batches = model
  scorer = functools.partial(scores.random, key=jax.random.key(0))
  masks = reconstruct.prune(
    fn, params, batches, sparsity=0.7, scorer=scorer, distribution=distributions.global_,
    method=None, masks=before, progress=False,
  )[1]  # fmt: skip
  found = jax.tree.leaves(masks)
  assert sum(int((~mask).sum()) for mask in found) == round(0.7 * sum(mask.size for mask in found))
  for mask, old in zip(found, jax.tree.leaves(before)):
    assert not bool((mask & ~old).any())


def test_one_clear_error(model):
  params, before, batches = model
  call = functools.partial(reconstruct.prune, fn, params, batches, sparsity=0.5, progress=False)
  with pytest.raises(ValueError, match='reconstruct.prune: `masks` must be a tree with the struct'):
    call(masks={'out': before['out']})
  with pytest.raises(TypeError, match="reconstruct.prune: `masks` must be of dtype bool; .* 'out'"):
    call(masks={**before, 'out': params['out']})
  own = lambda params, stats, sparsity, *, pattern, where: None
  with pytest.raises(TypeError, match='reconstruct.prune: `method` .*masks'):
    call(masks=before, method=own)
