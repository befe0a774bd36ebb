"""Kernels of any shape are repaired as the matrices that their products make of them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jprune.graph._statistics.moments import moments_of
from jprune.graph._statistics.stats import Stats, Use
from jprune.masks import NOfM
from jprune.reconstruct import alps, least_squares, per_output, sparsegpt
from tests import reference_repair as reference
from tests.reconstruct.kernels import (
  KERNELS,
  inputs_of,
  leaf_of,
  matrices_of,
  stats_of,
)

every_kernel = pytest.mark.parametrize('kernel', KERNELS.values(), ids=list(KERNELS))


@every_kernel
def test_sparsegpt_equals_that_of_the_matrices(kernel):
  rng = np.random.default_rng(0)
  leaf, x = leaf_of(kernel, rng), inputs_of(kernel, rng)
  new, masks, report = sparsegpt({'w': leaf}, stats_of(kernel, x), 0.5)
  w, mask = matrices_of(kernel, leaf), matrices_of(kernel, masks['w'])
  assert int((~masks['w']).sum()) == round(0.5 * leaf.size)
  off, whole = 0.0, 0.0
  for b in range(len(w)):
    expected, keep = reference.sparsegpt(w[b], x[b], 0.5)
    np.testing.assert_array_equal(mask[b], keep)
    np.testing.assert_allclose(matrices_of(kernel, new['w'])[b], expected, atol=1e-4)
    off += np.sum((x[b] @ (expected - w[b])) ** 2)
    whole += np.sum((x[b] @ w[b]) ** 2)
  assert report['w'].error_after == pytest.approx(off / whole, rel=1e-3)


@every_kernel
@pytest.mark.parametrize('method', [sparsegpt, alps])
def test_groups_lie_along_the_axis_of_the_leaf(kernel, method):
  rng = np.random.default_rng(1)
  leaf, x = leaf_of(kernel, rng), inputs_of(kernel, rng)
  axis = kernel.axis_of_inputs
  pattern = NOfM(2, 4, axis=axis)
  new, masks, report = method({'w': leaf}, stats_of(kernel, x), pattern=pattern)
  along = np.moveaxis(np.asarray(masks['w']), axis, -1)
  np.testing.assert_array_equal(along.reshape(-1, 4).sum(axis=-1), 2)
  np.testing.assert_array_equal(np.asarray(new['w']) != 0, masks['w'])
  off = whole = 0.0
  w, repaired = matrices_of(kernel, leaf), matrices_of(kernel, new['w'])
  for b in range(len(w)):
    off += np.sum((x[b].astype(np.float64) @ (repaired[b] - w[b])) ** 2)
    whole += np.sum((x[b].astype(np.float64) @ w[b]) ** 2)
  assert report['w'].error_after == pytest.approx(off / whole, rel=1e-3)
  assert report['w'].error_after < 0.9 * report['w'].error_before


@every_kernel
def test_least_squares_equals_that_of_the_matrices(kernel):
  rng = np.random.default_rng(2)
  leaf, x = leaf_of(kernel, rng), inputs_of(kernel, rng)
  mask = jnp.asarray(rng.random(kernel.shape) < 0.5)
  new, _, _ = least_squares({'w': leaf}, stats_of(kernel, x), {'w': mask})
  w, keep, out = (matrices_of(kernel, each) for each in (leaf, mask, new['w']))
  for b in range(len(w)):
    np.testing.assert_allclose(
      out[b], reference.least_squares(w[b], x[b], keep[b] != 0), rtol=0, atol=1e-3
    )


@every_kernel
def test_every_output_loses_the_same(kernel):
  rng = np.random.default_rng(3)
  scores = jnp.round(jnp.abs(leaf_of(kernel, rng)), 1)  # ties
  stats = stats_of(kernel, inputs_of(kernel, rng, rows=2))
  matrices = matrices_of(kernel, scores)
  places = matrices_of(kernel, np.arange(scores.size).reshape(scores.shape))
  for sparsity in (0.0, 0.31, 0.5, 0.995, 1.0):
    keep = np.asarray(per_output({'w': scores}, stats, sparsity)['w'])
    assert (~keep).sum() == round(sparsity * keep.size)
    expected = reference.per_output(matrices, places, sparsity)
    np.testing.assert_array_equal(matrices_of(kernel, keep) != 0, expected)
  pattern = NOfM(1, 4, axis=kernel.axis_of_inputs)
  keep = np.asarray(per_output({'w': scores}, stats, pattern=pattern)['w'])
  along = np.moveaxis(keep, kernel.axis_of_inputs, -1).reshape(-1, 4)
  ranked = np.moveaxis(np.asarray(scores), kernel.axis_of_inputs, -1).reshape(-1, 4)
  np.testing.assert_array_equal(along.argmax(axis=-1), ranked.argmax(axis=-1))
  np.testing.assert_array_equal(along.sum(axis=-1), 1)


def test_scores_that_are_none_have_no_mask():
  kernel = KERNELS['plain']
  rng = np.random.default_rng(4)
  stats = stats_of(kernel, inputs_of(kernel, rng, rows=2))
  scores = {'w': jnp.abs(leaf_of(kernel, rng)), 'b': None, 'c': jnp.ones(3)}
  masks = per_output(scores, stats, {'w': 0.5})
  assert (masks['b'], masks['c']) == (None, None)
  np.testing.assert_array_equal((~masks['w']).sum(axis=0), 12)


def parts(boxes, xs):
  """Stats of a leaf that is used box by box, as a fused projection is."""
  uses = tuple(
    Use(box, tuple(b - a for a, b in box), (0, 1), (), (0,), (1,), i) for i, box in enumerate(boxes)
  )
  return Stats(tuple(moments_of(jnp.asarray(x)[None]) for x in xs), (('w', uses),))


def test_a_leaf_that_is_used_in_parts():
  rng = np.random.default_rng(5)
  w = rng.normal(size=(24, 10)).astype(np.float32)
  xs = [reference.decaying(rng, 90, 24).astype(np.float32) for _ in range(2)]
  stats = parts([((0, 24), (0, 3)), ((0, 24), (3, 10))], xs)
  new, masks, _ = sparsegpt({'w': w}, stats, 0.55)
  assert int((~masks['w']).sum()) == round(0.55 * 240)
  gone = reference.shares(round(0.55 * 240), [24 * 3, 24 * 7])
  for columns, x, count in zip((slice(0, 3), slice(3, 10)), xs, gone):
    own = w[:, columns]
    expected, mask = reference.sparsegpt(own, x, count / own.size)
    np.testing.assert_array_equal(masks['w'][:, columns], mask)
    np.testing.assert_allclose(new['w'][:, columns], expected, atol=1e-4)


def test_products_of_the_same_kind_share_their_rows():
  """A leaf that is used twice is repaired for both."""
  rng = np.random.default_rng(6)
  w = rng.normal(size=(24, 10)).astype(np.float32)
  xs = [reference.decaying(rng, rows, 24).astype(np.float32) for rows in (50, 130)]
  whole = ((0, 24), (0, 10))
  new, _, report = sparsegpt({'w': w}, parts([whole, whole], xs), 0.5)
  x = np.concatenate(xs)
  expected, _ = reference.sparsegpt(w, x, 0.5)
  np.testing.assert_allclose(new['w'], expected, atol=1e-4)
  assert report['w'].error_after == pytest.approx(
    reference.relative_error(x, w, new['w']), rel=1e-3
  )


def test_an_expert_without_rows_is_pruned_by_magnitude():
  rng = np.random.default_rng(7)
  kernel = KERNELS['experts']
  leaf, x = leaf_of(kernel, rng), inputs_of(kernel, rng)
  stats = stats_of(kernel, x)
  (moments,) = stats.inputs
  empty = lambda a: a.at[1].set(0)
  moments = dataclasses.replace(
    moments, **{f.name: empty(getattr(moments, f.name)) for f in dataclasses.fields(moments)}
  )
  stats = dataclasses.replace(stats, inputs=(moments,))
  new, masks, report = sparsegpt({'w': leaf}, stats, 0.5)
  mask = np.asarray(masks['w'][1])
  np.testing.assert_array_equal(mask, ~reference.lowest(np.abs(np.asarray(leaf[1])), 120))
  np.testing.assert_array_equal(new['w'][1], np.where(mask, leaf[1], 0))
  assert report['w'].note == 'no rows for 1 of 3 products'
  assert 'w: no rows for 1 of 3 products' in str(report)
