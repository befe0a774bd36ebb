"""Taylor scores over data, per batch and per sample, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune import scores
from tests import reference_gradients as oracle
from tests.scores.test_snip import PARAMS, B, W, X, Y, batches, loss_fn, mean_grads


def sample_grads():
  return oracle.linear_grads(W, B, X.reshape(-1, 5), Y.reshape(-1, 3))


def test_mean_over_batches():
  found, grads = scores.taylor_batches(PARAMS, loss_fn, *batches()), mean_grads()
  for name, w in (('w', W), ('b', B)):
    np.testing.assert_allclose(found[name], np.abs(w * grads[name].mean(0)), rtol=1e-5)
  mean = jax.grad(lambda p: sum(loss_fn(p, batch) for batch in batches()) / 4)(PARAMS)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, scores.taylor(PARAMS, mean)
  )


@pytest.mark.parametrize('chunk', [1, 2, 3, 6, 7, 16])
def test_mean_over_samples_in_chunks_of_any_size(chunk):
  found = scores.taylor_samples(PARAMS, loss_fn, *batches(), chunk=chunk)
  for name, w, grads in zip('wb', (W, B), sample_grads()):
    np.testing.assert_allclose(found[name], oracle.taylor_samples(w, grads), rtol=1e-5)


def test_batches_count_by_their_samples():
  x, y = X.reshape(-1, 5).astype(np.float32), Y.reshape(-1, 3).astype(np.float32)
  split = [(x[a:b], y[a:b]) for a, b in ((0, 1), (1, 14), (14, 28))]
  found = scores.taylor_samples(PARAMS, loss_fn, *split, chunk=4)
  for name, w, grads in zip('wb', (W, B), sample_grads()):
    np.testing.assert_allclose(found[name], oracle.taylor_samples(w, grads), rtol=1e-5)


def test_the_loss_sees_one_sample_and_its_axis():
  seen = []

  def loss(params, batch):
    seen.append(jax.tree.map(jnp.shape, batch))
    return loss_fn(params, batch['xy']) + 0 * jnp.sum(batch['label']).astype(jnp.float32)

  batch = {'xy': batches()[0], 'label': np.arange(7), 'rng': jax.random.split(jax.random.key(0), 7)}
  scores.taylor_samples(PARAMS, loss, batch)
  assert set(map(str, seen)) == {str({'label': (1,), 'rng': (1,), 'xy': ((1, 5), (1, 3))})}


def test_memory_is_that_of_a_chunk():
  params = {'w': jnp.ones((64, 64))}
  loss = lambda p, x: jnp.mean(jnp.square(jnp.matmul(x, p['w'])))

  def largest(chunk):
    run = jax.jit(lambda p, x: scores.taylor_samples(p, loss, x, chunk=chunk))
    stats = run.lower(params, jnp.ones((256, 64))).compile().memory_analysis()
    return stats.temp_size_in_bytes / (64 * 64 * 4)

  assert largest(8) < 40 < 128 < largest(256)


def test_errors():
  axis = '`batches` must be trees whose leaves have the same samples along axis 0'
  for name in ('taylor_samples', 'fisher'):
    call = getattr(scores, name)
    with pytest.raises(ValueError, match=rf"{name}: {axis}.* shape \(\) in batch 0 at leaf '1'"):
      call(PARAMS, loss_fn, (X[0], 3.0))
    with pytest.raises(ValueError, match=rf"{axis}.* shape \(6,\) in .* 7 samples at leaf '1'"):
      call(PARAMS, loss_fn, (X[0], np.ones(6)))
    with pytest.raises(ValueError, match=rf'{axis}, at least one; got shape \(0, 5\)'):
      call(PARAMS, loss_fn, (X[0][:0], Y[0][:0]))
    for chunk in (0, 2.0, None):
      with pytest.raises(ValueError, match=f'{name}: `chunk` must be an int of at least 1'):
        call(PARAMS, loss_fn, *batches(), chunk=chunk)
