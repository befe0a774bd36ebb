"""Bad input gets one clear error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune.masks import pack
from jprune.report import tally


@pytest.mark.parametrize('params', [{}, None, (), {'a': None}])
def test_empty_tree(params):
  with pytest.raises(ValueError, match=r'tally: `params` must be a tree with at least one leaf'):
    tally(params)


def test_masks_of_another_structure():
  with pytest.raises(ValueError, match=r"tally: `masks` must be a tree with .* no leaf 'w'"):
    tally({'w': jnp.eye(2)}, {'v': np.eye(2) > 0})


def test_masks_of_another_shape():
  with pytest.raises(ValueError, match=r"tally: `masks` must be of shape \(2, 2\).* at leaf 'w'"):
    tally({'w': jnp.ones((2, 2))}, {'w': np.ones((2, 3), bool)})


def test_masks_of_another_dtype():
  with pytest.raises(TypeError, match=r'tally: `masks` must be of dtype bool; got float32'):
    tally({'w': jnp.eye(2)}, {'w': jnp.eye(2)})


def test_traced_params():
  with pytest.raises(TypeError, match=r'tally: `params` must be arrays with values.* traced'):
    jax.jit(tally)({'w': jnp.eye(2)})


@pytest.mark.parametrize('transform', [lambda masks: masks, pack])
def test_traced_masks(transform):
  params = {'b': jnp.ones(2), 'w': jnp.eye(2)}
  fails = jax.jit(lambda mask: tally(params, {'b': None, 'w': transform(mask)}))
  with pytest.raises(TypeError, match=r"`masks` must be .* traced .* at leaf 'w'. Call it out"):
    fails(jnp.eye(2) > 0)


@pytest.mark.parametrize('transform', [lambda masks: masks, pack])
def test_masks_without_values(transform):
  masks = jax.eval_shape(transform, {'w': np.eye(2) > 0})
  with pytest.raises(TypeError, match=r"`masks` must be .* a shape struct .* at leaf 'w'"):
    tally({'w': jnp.eye(2)}, masks)
