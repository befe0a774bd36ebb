"""Complex leaves are pruned, trained, packed, counted and written as floating ones are."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jprune
from jprune import masks, scores


def _params():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape), 'c8')
  return {'bias': draw(12), 'kernel': draw(6, 12), 'out': draw(12, 2)}


PARAMS = _params()
X = jnp.ones((2, 6), jnp.complex64)


def fn(params, x):
  return jnp.tanh(x @ params['kernel'] + params['bias'][None]) @ params['out']


def test_masks_are_those_of_the_absolute_values():
  sizes = jax.tree.map(jnp.abs, PARAMS)
  patterns = [masks.Unstructured(), masks.Block((2, 2)), masks.Channel(-1)]
  for options in [{'sparsity': 0.5, 'pattern': pattern} for pattern in patterns] + [
    {'sparsity': 0.5, 'distribution': jprune.distributions.global_},
    {'sparsity': 0.5, 'distribution': jprune.distributions.er},
    {'sparsity': 0.5, 'distribution': jprune.distributions.owl},
    {'pattern': masks.NOfM(2, 4, axis=-1), 'where': 'kernel'},
  ]:
    found, want = jprune.prune(PARAMS, **options), jprune.prune(sizes, **options)
    jax.tree.map(np.testing.assert_array_equal, found, want)
  assert found['bias'] is None
  drawn = masks.bernoulli(PARAMS, 0.5, key=jax.random.key(0))
  assert drawn['kernel'].shape == (6, 12)


def test_pruned_weights_stay_zero():
  kept = jprune.prune(PARAMS, 0.5)
  params = jprune.apply(PARAMS, kept)
  assert params['kernel'].dtype == jnp.complex64
  tx = optax.chain(optax.adam(0.1), jprune.keep_pruned(kept))
  state = tx.init(params)
  grads = jax.tree.map(jnp.conj, jax.grad(lambda p: jnp.sum(jnp.abs(fn(p, X))))(PARAMS))
  with jax.numpy_dtype_promotion('standard'):  # Adam divides complex numbers by real ones
    updates, state = tx.update(grads, state, params)
  params = optax.apply_updates(params, updates)
  for name in ('kernel', 'out'):
    assert not np.asarray(params[name])[~np.asarray(kept[name])].any()
    assert np.asarray(params[name])[np.asarray(kept[name])].all()
  masked, _ = jprune.mask_updates(kept).update(
    grads, jprune.mask_updates(kept).init(params), params
  )
  assert not np.asarray(masked['kernel'])[~np.asarray(kept['kernel'])].any()


def test_files_and_tallies(tmp_path):
  kept = jprune.prune(PARAMS, 0.75)
  report = jprune.tally(PARAMS, kept, fn=fn, args=(X,))
  row = report.rows[1]
  assert (row.dtype, row.size, row.nonzero, row.bytes_dense) == ('complex64', 72, 18, 72 * 8)
  assert row.bytes_stored < row.bytes_dense / 2
  assert row.macs.sparse * 4 == row.macs.dense
  assert report.rows[0].skipped != 'not floating'
  jprune.save(tmp_path / 'model.safetensors', PARAMS, kept)
  params, again = jprune.load(tmp_path / 'model.safetensors')
  jax.tree.map(np.testing.assert_array_equal, params, jprune.apply(PARAMS, kept))
  assert params['out'].dtype == np.complex64
  jax.tree.map(np.testing.assert_array_equal, again, kept)
  jax.tree.map(np.testing.assert_array_equal, masks.unpack(masks.pack(kept)), kept)


def test_channels_shrink():
  graph = jprune.graph.channels(fn, PARAMS, X)
  found = masks.channels(scores.magnitude(PARAMS), graph, 0.5)
  small = jprune.shrink(fn, PARAMS, found, X)
  assert small.params['kernel'].shape == (6, 6)
  np.testing.assert_allclose(
    small.fn(small.params, X), fn(jprune.apply(PARAMS, found), X), atol=1e-5
  )
  drawn = jprune.graph.verify(
    fn, PARAMS, found, jax.ShapeDtypeStruct((2, 6), 'complex64'), key=jax.random.key(0)
  )
  assert drawn.relative < 1e-5


def test_what_is_for_real_weights_says_so():
  real_inputs = lambda p, x: fn(p, x.astype(jnp.complex64))
  x = jnp.ones((2, 6))
  _, stats = jprune.graph.capture(real_inputs, PARAMS, x, gram=True)
  kept = jprune.prune(PARAMS, 0.5)
  text = "must be real where .*; got complex weights, complex64 of shape .* at leaf 'kernel'"
  for run in (
    lambda: jprune.reconstruct.prune(real_inputs, PARAMS, [x], sparsity=0.5),
    lambda: jprune.reconstruct.least_squares(PARAMS, stats, kept),
    lambda: jprune.reconstruct.sparsegpt(PARAMS, stats, 0.5, where='kernel'),
  ):
    with pytest.raises(TypeError, match=text):
      run()
  mixed = {**PARAMS, 'last': jnp.ones((2, 3))}
  both = lambda p, x: jnp.abs(real_inputs(p, x)) @ p['last']
  _, _, report = jprune.reconstruct.prune(both, mixed, [x], sparsity=0.5)
  assert dict(report.skipped)['kernel'] == 'complex, which is not repaired'
  with pytest.raises(TypeError, match='`scores` must be a floating array; got complex64'):
    masks.top_k(PARAMS, 0.5)
