"""Bad input gets one clear error."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune.graph._statistics.moments import moments_of, no_rows
from jprune.graph._statistics.stats import Stats, Use
from jprune.masks import Block, NOfM, Unstructured
from jprune.reconstruct import alps, least_squares, per_output, sparsegpt
from tests.reconstruct.kernels import KERNELS, inputs_of, leaf_of, stats_of
from tests.stats import of_inputs

both = pytest.mark.parametrize('method', [sparsegpt, alps], ids=['sparsegpt', 'alps'])
PARAMS = {'w': jnp.ones((8, 4)), 'b': jnp.ones(4)}


def stats(**options):
  x = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
  return of_inputs({'w': x}, {'w': 4}, **options)


def least(params, stats, sparsity=0.5, **options):
  masks = jax.tree.map(lambda w: None if w.ndim < 2 else jnp.zeros(w.shape, bool), params)
  return least_squares(params, stats, masks, **options)


everything = pytest.mark.parametrize(
  ('method', 'name'),
  [(sparsegpt, 'sparsegpt'), (alps, 'alps'), (least, 'least_squares')],
  ids=['sparsegpt', 'alps', 'least_squares'],
)


@everything
def test_no_statistics(method, name):
  params = {**PARAMS, 'v': jnp.ones((2, 2))}
  left = dataclasses.replace(stats(), skipped=(('v', 'fn does not use it'),))
  match = rf"{name}: `stats` must be .*fn does not use it.* at leaf 'v'.*where="
  with pytest.raises(ValueError, match=match):
    method(params, left, 0.5)
  with pytest.raises(TypeError, match=rf'{name}: `stats` must be statistics of inputs'):
    method(PARAMS, {'w': 1}, 0.5)


@everything
def test_statistics_that_do_not_do(method, name):
  with pytest.raises(ValueError, match=rf"{name}: `stats` .*gram=True.* at leaf 'w'"):
    method(PARAMS, stats(gram=False), 0.5)
  found = stats()
  none = dataclasses.replace(found, inputs=(no_rows(1, 8, True),))
  with pytest.raises(ValueError, match=rf"{name}: `stats` must be of at least one row.* leaf 'w'"):
    method(PARAMS, none, 0.5)
  broken = dataclasses.replace(
    found.inputs[0], products=found.inputs[0].products.at[0, 1, 2].set(jnp.inf)
  )
  broken = dataclasses.replace(found, inputs=(broken,))
  with pytest.raises(ValueError, match=rf"{name}: `stats` must be finite.* at leaf 'w'"):
    method(PARAMS, broken, 0.5)
  with pytest.raises(ValueError, match=rf"{name}: `stats` .*shape.* at leaf 'w'"):
    method({'w': jnp.ones((9, 4))}, found, 0.5)
  with pytest.raises(ValueError, match=rf"{name}: `stats` .*shape.* at leaf 'w'"):
    method({'w': jnp.ones((4, 4))}, found, 0.5)


@everything
def test_products_that_do_not_do(method, name):
  x = jnp.ones((1, 3, 8))
  use = Use(((0, 8), (0, 8)), (8, 8), (0, 1), (), (0,), (1,), 0, line='model.py:7')
  params = {'w': jnp.ones((8, 8))}
  back = dataclasses.replace(use, inputs=(1,), outputs=(0,), line='model.py:9')
  tied = Stats((moments_of(x),), (('w', (use, back)),))
  with pytest.raises(ValueError, match=rf"{name}: .*several.*model.py:7.*model.py:9.* leaf 'w'"):
    method(params, tied, 0.5)
  half = dataclasses.replace(use, box=((0, 8), (4, 8)), shape=(8, 4))
  with pytest.raises(ValueError, match=rf"{name}: .*those of 32 of 64 weights at leaf 'w'"):
    method(params, Stats((moments_of(x),), (('w', (half,)),)), 0.5)
  if hasattr(use, 'direct'):
    other = dataclasses.replace(use, direct=False)
    with pytest.raises(ValueError, match=rf"{name}: .*computed from them.*model.py:7.* leaf 'w'"):
      method(params, Stats((moments_of(x),), (('w', (other,)),)), 0.5)


@everything
def test_weights_that_do_not_do(method, name):
  with pytest.raises(ValueError, match=rf"{name}: `params` must be finite.* at leaf 'w'"):
    method({'w': PARAMS['w'].at[0, 0].set(jnp.nan)}, stats(), 0.5)
  with pytest.raises(ValueError, match=rf'{name}: `where`'):
    method(PARAMS, stats(), 0.5, where='nothing')
  with pytest.raises(TypeError, match=rf"{name}: `(params|masks)` .*traced.* at leaf 'w'"):
    jax.jit(lambda w: method({'w': w}, stats(), 0.5)[0])(PARAMS['w'])
  with pytest.raises(ValueError, match=rf'{name}: `damping` must be at least 0'):
    method(PARAMS, stats(), 0.5, damping=-1)


@both
def test_sparsities(method):
  name = method.__name__
  with pytest.raises(TypeError, match=rf'{name}: `sparsity` must be a number'):
    method(PARAMS, stats())
  with pytest.raises(ValueError, match=rf'{name}: `sparsity` must be in \[0, 1\]; got 50.0'):
    method(PARAMS, stats(), 50)
  with pytest.raises(ValueError, match=rf"{name}: `sparsity` .* at leaf 'b'"):
    method(PARAMS, stats(), {'w': 0.5, 'b': 0.5})
  with pytest.raises(ValueError, match=rf'{name}: `sparsity` must be a tree'):
    method(PARAMS, stats(), {'v': 0.5})
  with pytest.raises(ValueError, match=rf'{name}: `sparsity` must be None for NOfM'):
    method(PARAMS, stats(), 0.5, pattern=NOfM(2, 4))
  with pytest.raises(TypeError, match=rf"{name}: `per_output` must be True or False; got 'row'"):
    method(PARAMS, stats(), 0.5, per_output='row')


def test_options():
  with pytest.raises(ValueError, match='sparsegpt: `block` must be an int of at least 1; got 0'):
    sparsegpt(PARAMS, stats(), 0.5, block=0)
  with pytest.raises(ValueError, match='alps: `steps` must be an int of at least 1'):
    alps(PARAMS, stats(), 0.5, steps=0)
  with pytest.raises(ValueError, match='alps: `iterations` must be an int of at least 1'):
    alps(PARAMS, stats(), 0.5, iterations=1.5)


@pytest.mark.parametrize('method', [sparsegpt, alps, per_output])
def test_patterns(method):
  name = method.__name__
  with pytest.raises(TypeError, match=rf'{name}: `pattern` must be .*Block.*least_squares'):
    method(PARAMS, stats(), 0.5, pattern=Block((2, 2)))
  with pytest.raises(TypeError, match=rf'{name}: `pattern` must be a pattern'):
    method(PARAMS, stats(), 0.5, pattern=Unstructured)
  with pytest.raises(ValueError, match=rf"{name}: `pattern` .*summed over.*axis -1.* at leaf 'w'"):
    method(PARAMS, stats(), pattern=NOfM(2, 4, axis=-1))
  with pytest.raises(ValueError, match=rf"{name}: axis -2 of leaf 'w' must be divisible by m=5"):
    method(PARAMS, stats(), pattern=NOfM(2, 5))
  with pytest.raises(ValueError, match=rf"{name}: axis -2 of leaf 'w' must be divisible by m=5"):
    method(PARAMS, stats(), pattern=NOfM(2, 5, pad=True))
  with pytest.raises(ValueError, match=rf"{name}: `axis` must be an axis .* at leaf 'w'"):
    method(PARAMS, stats(), pattern=NOfM(2, 4, axis=2))


def test_groups_that_a_product_cuts():
  """Heads of 2 rows each: groups of 4 along the axis lie across them."""
  rng = np.random.default_rng(1)
  x = jnp.asarray(rng.normal(size=(4, 9, 2)), jnp.float32)
  use = Use(((0, 8), (0, 4)), (4, 2, 4), (0, 0, 1), (0,), (1,), (2,), 0)
  with pytest.raises(ValueError, match=r'divisible by m=4, also in each part.*\(8, 4\)'):
    sparsegpt(PARAMS, Stats((moments_of(x),), (('w', (use,)),)), pattern=NOfM(2, 4))
  kernel = KERNELS['grouped conv']
  with pytest.raises(ValueError, match='axis 2 of shape'):
    sparsegpt(
      {'w': leaf_of(kernel, rng)}, stats_of(kernel, inputs_of(kernel, rng)), pattern=NOfM(2, 4, 2)
    )


def test_masks():
  with pytest.raises(TypeError, match='least_squares: `masks` must be of dtype bool'):
    least_squares(PARAMS, stats(), {'w': jnp.ones((8, 4)), 'b': None})
  with pytest.raises(ValueError, match='least_squares: `masks` must be of shape'):
    least_squares(PARAMS, stats(), {'w': jnp.ones((4, 4), bool), 'b': None})
  with pytest.raises(ValueError, match='least_squares: `masks` must be a tree'):
    least_squares(PARAMS, stats(), {'w': None})


def test_masks_before_statistics_are_told_where_they_go():
  with pytest.raises(TypeError) as told:
    least_squares(PARAMS, {'w': jnp.ones((8, 4), bool), 'b': None}, stats())
  assert str(told.value) == (
    'least_squares: `stats` must be statistics of inputs, and `masks` a tree of masks; got dict '
    'and Stats. Statistics come second: least_squares(params, stats, masks).'
  )


def test_scores():
  with pytest.raises(ValueError, match="per_output: `scores` must be free of NaN.* at leaf 'w'"):
    per_output({'w': PARAMS['w'] * jnp.nan}, stats(), 0.5)
  with pytest.raises(ValueError, match="per_output: `stats` .* at leaf 'v'"):
    per_output({'v': PARAMS['w']}, stats(), 0.5)
