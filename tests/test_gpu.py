"""What an accelerator may do otherwise: each of these against NumPy, or the same on the host.

Skipped where there is no GPU; ``python -m tests.benchmarks.gpu`` runs them.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jprune
from tests import networks

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def device():
  """The GPU; or, where the script that runs these says so, whatever there is."""
  found = jax.devices()[0]
  if found.platform != 'gpu' and os.environ.get('JPRUNE_GPU_TESTS') != found.platform:
    pytest.skip('there is no GPU')
  return found


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_selection_is_exact_and_stores_nothing_of_the_size_of_the_scores(dtype):
  scores = jax.random.normal(jax.random.key(0), (257, 4099)).astype(dtype)
  select = jax.jit(lambda x: jprune.masks.top_k(x, 0.9)).lower(scores).compile()
  mask, values = np.asarray(select(scores)), np.asarray(scores, np.float32).ravel()
  order = np.lexsort((np.arange(values.size), -values))  # of equal scores the first is kept
  expected = np.zeros(values.size, bool)
  expected[order[: values.size - round(0.9 * values.size)]] = True
  np.testing.assert_array_equal(mask.ravel(), expected)
  if (memory := select.memory_analysis()) is not None and jax.default_backend() == 'gpu':
    assert memory.temp_size_in_bytes < scores.nbytes / 2


def test_captured_moments_are_those_of_numpy():
  rng = np.random.default_rng(0)
  shapes = {'in': (24, 40), 'out': (40, 8), 'x': (300, 24)}
  values = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
  x = values.pop('x')
  fn = lambda params, x: jnp.tanh(x @ params['in']) @ params['out']
  with jax.default_matmul_precision('highest'):
    _, stats = jprune.graph.capture(fn, values, x, gram=True)
  hidden = np.tanh(x.astype(np.float64) @ values['in'])
  for key, rows in (('in', x.astype(np.float64)), ('out', hidden)):
    ((_, moments),) = stats[key]
    np.testing.assert_allclose(moments.mean[0], rows.mean(0), rtol=1e-4, atol=1e-5)
    # around the mean: sums of products of deviations
    apart = rows - rows.mean(0)
    np.testing.assert_allclose(moments.squares[0], (apart**2).sum(0), rtol=1e-4)


def test_sparsegpt_repairs_as_on_the_host():
  rng = np.random.default_rng(1)
  mixed = rng.standard_normal((32, 32)) * 0.3 + np.eye(32)
  batches = [(rng.standard_normal((64, 32)) @ mixed).astype(np.float32) for _ in range(2)]
  params = {'w': rng.standard_normal((32, 16)).astype(np.float32)}
  fn = lambda params, x: x @ params['w']

  def repaired(where):
    with jax.default_device(where), jax.default_matmul_precision('highest'):
      return jprune.reconstruct.prune(fn, params, batches, sparsity=0.5, progress=False)

  here, there = repaired(None), repaired(jax.devices('cpu')[0])
  assert int(here[1]['w'].sum()) == 32 * 16 // 2
  assert (np.asarray(here[1]['w']) == np.asarray(there[1]['w'])).mean() > 0.98  # ties in rounding
  error = lambda found: np.square(batches[0] @ (np.asarray(found[0]['w']) - params['w'])).sum()
  np.testing.assert_allclose(error(here), error(there), rtol=0.02)


def test_pruned_weights_stay_zero_while_training():
  params = {'w': jax.random.normal(jax.random.key(0), (64, 32))}
  masks = jprune.prune(params, 0.9)
  tx = optax.chain(optax.adamw(1e-2), jprune.keep_pruned(masks))
  params, state = jprune.apply(params, masks), tx.init(params)

  @jax.jit
  def step(params, state):
    with jax.numpy_dtype_promotion('standard'):  # optax itself mixes dtypes
      updates, state = tx.update(params, state, params)
    return optax.apply_updates(params, updates), state

  for _ in range(3):
    params, state = step(params, state)
  np.testing.assert_array_equal(np.asarray(params['w'] != 0), np.asarray(masks['w']))


def test_a_shrunk_network_computes_what_the_masked_one_does():
  fn, variables, (image,) = networks.resnet18(width=8, size=32)
  params = jax.tree.map(jnp.asarray, networks.filled(variables))
  graph = jprune.graph.channels(fn, params, image)
  masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5)
  with jax.numpy_dtype_promotion('standard'), jax.default_matmul_precision('highest'):
    x = jax.random.normal(jax.random.key(1), image.shape)
    assert jprune.graph.verify(fn, params, masks, x).relative < 1e-4
