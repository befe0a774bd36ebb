"""Random scores: uniform, and a function of key, path and shape alone."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jprune import scores
from jprune.scores import _random

KEY = jax.random.key(0)


def test_are_uniform_and_independent_between_leaves():
  params = {'a': jnp.zeros((200, 100)), 'b': jnp.zeros((200, 100))}
  found = {k: np.asarray(v).ravel() for k, v in scores.random(params, key=KEY).items()}
  for values in found.values():
    assert values.min() >= 0
    assert values.max() < 1
    counts = np.histogram(values, 20, (0, 1))[0]
    assert np.sum((counts - 1000) ** 2 / 1000) < 50  # chi-squared, 19 degrees: p = 1e-4
  assert abs(np.corrcoef(found['a'], found['b'])[0, 1]) < 0.03


def test_a_leaf_does_not_depend_on_the_others():
  w = jnp.zeros((3, 4))
  alone = scores.random({'layer': {'w': w}}, key=KEY)['layer']['w']
  among = scores.random({'a': w, 'layer': {'n': jnp.array(1), 'w': w}, 'z': w}, key=KEY)['layer'][
    'w'
  ]
  np.testing.assert_array_equal(alone, among)


def test_do_not_depend_on_the_process():
  code = (
    'import jax, jax.numpy as jnp; from jprune import scores;'
    "print(scores.random({'w': jnp.zeros(4)}, key=jax.random.key(0))['w'].tolist())"
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert done.stdout.strip() == str(scores.random({'w': jnp.zeros(4)}, key=KEY)['w'].tolist())


def test_paths_whose_words_collide_get_different_scores(monkeypatch):
  monkeypatch.setattr(_random, '_word', lambda path, attempt: attempt)
  found = scores.random([jnp.zeros(8)] * 3, key=KEY)
  assert len({tuple(leaf.tolist()) for leaf in found}) == 3


def test_words_are_distinct_for_leaves_of_one_path():
  assert len(set(_random._words(['a/b', 'a/b', 'c']).tolist())) == 3


def test_shape_structs_will_do():
  w = jnp.zeros((3, 4), jnp.bfloat16)
  struct = jax.ShapeDtypeStruct(w.shape, w.dtype)
  expected = scores.random({'w': w}, key=KEY)['w']
  np.testing.assert_array_equal(scores.random({'w': struct}, key=KEY)['w'], expected)
  under_jit = jax.jit(lambda key: scores.random({'w': struct}, key=key))(KEY)['w']
  np.testing.assert_array_equal(under_jit, expected)


def test_leaves_on_other_devices_than_the_key():
  mesh = jax.make_mesh((8,), ('x',), axis_types=(AxisType.Auto,))
  key = jax.device_put(KEY, jax.devices()[1])
  split = jax.device_put(jnp.zeros((8, 2)), NamedSharding(mesh, PartitionSpec('x')))
  on_three = jax.device_put(jnp.zeros((8, 2)), jax.devices()[3])
  found = scores.random({'w': split}, key=key)['w'], scores.random({'w': on_three}, key=key)['w']
  assert found[0].sharding == split.sharding
  assert found[1].devices() == {jax.devices()[3]}
  np.testing.assert_array_equal(found[0], found[1])


def test_scores_of_a_leaf_that_may_move_may_move():
  assert not scores.random({'w': jnp.zeros(3)}, key=KEY)['w'].committed


@pytest.mark.parametrize(
  ('key', 'got'),
  [
    (None, 'None'),
    (0, 'int'),
    (np.zeros(2, np.uint32), 'uint32'),
    (jax.random.split(KEY, 2), r'shape \(2,\)'),
  ],
)
def test_refuses_what_is_not_one_typed_key(key, got):
  with pytest.raises(TypeError, match=rf'random: `key` must be .*typed random key; got .*{got}'):
    scores.random({'w': jnp.ones(2)}, key=key)
