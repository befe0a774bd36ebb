"""What capture must find, from rows at hand: sums in float64 NumPy, and the products themselves."""

import jax
import jax.numpy as jnp
import numpy as np

from jprune import tree
from jprune.graph import capture


def normal(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def close(found, expected, tolerance=1e-6):
  """To a relative 1e-6 of the norm, and no entry off by more than ten times that of the largest."""
  found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
  assert found.shape == expected.shape
  assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)
  np.testing.assert_allclose(
    found, expected, rtol=0, atol=10 * tolerance * np.abs(expected).max(initial=0)
  )


def check_moments(moments, rows, weights=None, tolerance=1e-6):
  """Moments against rows, ``(rows, inputs)`` or ``(batch, rows, inputs)``."""
  rows = np.asarray(rows, np.float64)
  rows = rows if rows.ndim == 3 else rows[None]
  weights = np.ones(rows.shape[1]) if weights is None else np.asarray(weights, np.float64).ravel()
  total = weights.sum()
  mean = np.einsum('brd,r->bd', rows, weights) / total
  apart = rows - mean[:, None]
  close(moments.count, np.full(len(rows), total))
  size = np.exp2(np.asarray(moments.exponent, np.float64))
  pairs = size[:, :, None] * size[:, None, :]
  true = lambda found, size: np.asarray(found, np.float64) * size
  close(true(moments.mean, size), mean, tolerance)
  squares = np.einsum('brd,brd,r->bd', apart, apart, weights)
  close(true(moments.squares, size**2), squares, tolerance)
  close(moments.zeros, np.einsum('brd,r->bd', rows == 0, weights))
  products = np.einsum('brd,bre,r->bde', apart, apart, weights)
  close(true(moments.products, pairs), products, tolerance)
  level, power = moments.levelled()
  gram = np.einsum('brd,bre,r->bde', rows, rows, weights) / total
  close(true(level.gram, 4.0 ** np.asarray(power)[:, None, None]), gram, tolerance)


def check_same(stats, others, tolerance=1e-6):
  """Equal statistics, whatever moments are shared in either."""
  assert stats.paths == others.paths
  for path in stats.paths:
    for (use, found), (other, expected) in zip(stats[path], others[path], strict=True):
      assert (use.box, use.sizes) == (other.box, other.sizes)
      for name in ('count', 'squares', 'zeros', 'products', 'exponent'):
        if getattr(expected, name) is not None:
          close(getattr(found, name), getattr(expected, name), tolerance)
      # rounding errors of a mean are those of its terms, however near to zero it is itself
      apart = np.asarray(found.mean, np.float64) - np.asarray(expected.mean, np.float64)
      size = np.linalg.norm(np.sqrt(np.asarray(expected.second_moment, np.float64)))
      assert np.linalg.norm(apart) <= tolerance * size


def captured(fn, params, *args, **options):
  """Statistics with Grams; checks what holds for all: outputs, uses that cover, round trips."""
  outs, stats = capture(fn, params, *args, gram=True, **options)
  expected = jax.jit(fn)(params, *args)
  assert jax.tree.structure(outs) == jax.tree.structure(expected)
  for one, other in zip(jax.tree.leaves(outs), jax.tree.leaves(expected)):
    assert (one.shape, one.dtype) == (other.shape, other.dtype)
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
  check_accounts(stats, params)
  return stats


def check_accounts(stats, params):
  """Every leaf of two or more dimensions has uses that tile it, or a reason why not."""
  paths, leaves, _ = tree.flatten(params)
  skipped = dict(stats.skipped)
  assert set(stats.paths).isdisjoint(skipped)
  assert all(skipped.values())
  for path, leaf in zip(paths, leaves):
    if np.ndim(leaf) >= 2 and tree.is_floating(leaf):
      assert path in stats or path in skipped, path
    if path in stats:
      _check_tiles(stats[path], leaf.shape)


def _check_tiles(uses, shape):
  entries = np.arange(1, 1 + np.prod(shape, dtype=int)).reshape(shape)  # 0 would be unused
  seen = []
  for use, moments in uses:
    assert {type(bound) for bounds in use.box for bound in bounds} == {int}
    batch, inputs, outputs = use.sizes
    assert moments.mean.shape == (batch, inputs)
    matrices = use.matrices(entries)
    assert matrices.shape == (batch, inputs, outputs)
    seen.append(matrices.ravel())
    box = np.zeros(shape, int)
    box[tuple(slice(*bounds) for bounds in use.box)] = 1
    placed = use.placed(np.zeros(shape, int) if box.all() else jnp.zeros(shape, int), matrices)
    np.testing.assert_array_equal(placed, entries * box)
  np.testing.assert_array_equal(np.sort(np.concatenate(seen)), entries.ravel())


def only(stats, path):
  """The one use of a leaf."""
  ((use, moments),) = stats[path]
  return use, moments


def energy(stats, params, changed=lambda leaf: leaf):
  """Sum over all uses of ``count * tr(W^T gram W)``: the squared norm of all products."""
  total = 0.0
  paths, leaves, _ = tree.flatten(params)
  by_path = dict(zip(paths, leaves))
  for path in stats.paths:
    leaf = by_path[path]
    for use, moments in stats[path]:
      w = np.asarray(use.matrices(changed(leaf)), np.float64)
      grams = np.asarray(moments.gram, np.float64) * np.asarray(moments.count)[:, None, None]
      total += np.einsum('bio,bij,bjo->', w, grams, w)
  return total


def unrolled(weights, x, order=None):
  """What each weight is multiplied by in ``tanh(tanh(x w) w)...``: ``(n, rows, in)``, float64."""
  weights, x = np.asarray(weights, np.float64), np.asarray(x, np.float64)
  rows = []
  for w in weights if order is None else weights[order]:
    rows.append(x)
    x = np.tanh(x @ w)
  return np.stack(rows)


def together(rows):
  """Rows of all steps."""
  return rows.reshape(-1, rows.shape[-1])
