"""uniform, fixed and global_: values, ``None`` leaves, and every message."""

import difflib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune import distributions as d
from jprune import masks

PARAMS = {'a': {'w': jnp.ones((2, 3)), 'b': jnp.ones(3)}, 'c': jnp.ones((3, 4))}
SCORES = {'a': {'w': jnp.ones((2, 3)), 'b': None}, 'c': jnp.ones((3, 4))}
ALL = {'uniform': d.uniform, 'er': d.er, 'erk': d.erk, 'global_': d.global_}
each = pytest.mark.parametrize('name', ALL)


@each
def test_python_floats_and_none_where_scores_are_none(name):
  found = ALL[name](PARAMS, SCORES, 0.5)
  assert found['a']['b'] is None
  assert type(found['a']['w']) is float
  assert type(found['c']) is float


@each
@pytest.mark.parametrize('sparsity', [0, 1, 0.0, 1.0])
def test_nothing_and_everything(name, sparsity):
  assert jax.tree.leaves(ALL[name](PARAMS, SCORES, sparsity)) == [float(sparsity)] * 2


@each
@pytest.mark.parametrize('sparsity', [np.float64(0.5), jnp.float32(0.5)])
def test_scalars_of_numpy_and_jax_are_numbers(name, sparsity):
  assert ALL[name](PARAMS, SCORES, sparsity) == ALL[name](PARAMS, SCORES, 0.5)


@each
@pytest.mark.parametrize('sparsity', [-0.1, 1.1, 90, float('nan')])
def test_refuses_sparsities_out_of_range(name, sparsity):
  with pytest.raises(ValueError, match=rf'^{name}: `sparsity` must be in \[0, 1\]; got'):
    ALL[name](PARAMS, SCORES, sparsity)


@each
@pytest.mark.parametrize('sparsity', [None, '0.5', True])
def test_refuses_sparsities_that_are_no_numbers(name, sparsity):
  with pytest.raises(TypeError, match=rf'^{name}: `sparsity` must be a number; got'):
    ALL[name](PARAMS, SCORES, sparsity)


@pytest.mark.parametrize('name', sorted(set(ALL) - {'uniform'}))
def test_refuses_a_traced_sparsity(name):
  with pytest.raises(TypeError, match=rf'^{name}: `sparsity` must be a number at hand'):
    jax.jit(lambda s: ALL[name](PARAMS, SCORES, s))(0.5)


def test_uniform_hands_a_traced_sparsity_on():
  out = jax.jit(lambda s: d.uniform(PARAMS, SCORES, s))(0.5)
  assert jax.tree.map(float, out) == d.uniform(PARAMS, SCORES, 0.5)


@each
def test_refuses_trees_without_scores(name):
  with pytest.raises(ValueError, match=rf'^{name}: `params` must be a tree with at least one leaf'):
    ALL[name]({}, {}, 0.5)
  with pytest.raises(ValueError, match=rf'^{name}: `scores` must be scores for at least one leaf'):
    ALL[name](PARAMS, jax.tree.map(lambda _: None, PARAMS), 0.5)


@each
def test_refuses_scores_of_other_params(name):
  with pytest.raises(ValueError, match=rf"^{name}: `scores` must be .*structure.*no leaf 'a/b'"):
    ALL[name](PARAMS, {'a': {'w': PARAMS['a']['w']}, 'c': PARAMS['c']}, 0.5)
  with pytest.raises(ValueError, match=rf"^{name}: `scores` must be of shape \(3, 4\).*leaf 'c'"):
    ALL[name](PARAMS, {**SCORES, 'c': jnp.ones((4, 3))}, 0.5)


@pytest.mark.parametrize('name', ['uniform', 'er', 'erk'])
def test_shapes_suffice(name):
  structs = jax.eval_shape(lambda: PARAMS)
  found = ALL[name](structs, structs, 0.5)
  assert found == ALL[name](PARAMS, PARAMS, 0.5)
  assert jax.jit(lambda p: (ALL[name](p, p, 0.5), 0)[0])(PARAMS) == found


def test_uniform_is_uniform():
  assert d.uniform(PARAMS, SCORES, 0.3) == {'a': {'w': 0.3, 'b': None}, 'c': 0.3}


def test_fixed_names_leaves():
  expected = {'a': {'w': 0.25, 'b': None}, 'c': None}
  distribution = d.fixed({'a/w': 0.25})
  assert distribution(PARAMS, SCORES, None) == expected
  assert distribution(PARAMS, PARAMS) == expected


def test_fixed_keeps_its_own_copy():
  sparsities = {'c': 1}
  distribution = d.fixed(sparsities)
  sparsities['c'] = 0
  assert distribution(PARAMS, SCORES)['c'] == 1.0


def test_fixed_refuses_a_leaf_that_there_is_not():
  match = r"^fixed: `sparsities` must be .*keys are leaf paths; got 'a/ww'.*Did you mean 'a/w'"
  with pytest.raises(ValueError, match=match):
    d.fixed({'a/ww': 0.5})(PARAMS, SCORES)
  with pytest.raises(ValueError, match=r"got 'xyzzy', which no leaf is called. There are 'a/b'"):
    d.fixed({'xyzzy': 0.5})(PARAMS, SCORES)


def test_many_unknown_paths_are_no_search_for_each(monkeypatch):
  seen, real = [], difflib.get_close_matches
  monkeypatch.setattr(difflib, 'get_close_matches', lambda *a: seen.append(a) or real(*a))
  params = {f'layer_{i}': jnp.ones((2, 2)) for i in range(50)}
  with pytest.raises(ValueError, match="and 47 more, .* Did you mean 'layer_0'"):
    d.fixed({f'layers_{i}': 0.5 for i in range(50)})(params, params)
  assert len(seen) == 3


def test_fixed_refuses_a_leaf_that_stays_dense():
  match = r"^fixed: `sparsities` must be .*to be pruned.*leaf 'a/b'.*where="
  with pytest.raises(ValueError, match=match):
    d.fixed({'a/b': 0.5})(PARAMS, SCORES)


def test_fixed_refuses_an_overall_sparsity():
  with pytest.raises(ValueError, match=r'^fixed: `sparsity` must be None; got 0.5. The dict'):
    d.fixed({'c': 0.5})(PARAMS, SCORES, 0.5)


@pytest.mark.parametrize('sparsities', [None, {}, 0.5, [('c', 0.5)]])
def test_fixed_refuses_what_is_no_dict(sparsities):
  with pytest.raises(TypeError, match=r'^fixed: `sparsities` must be a non-empty dict'):
    d.fixed(sparsities)


def test_fixed_refuses_bad_numbers():
  with pytest.raises(ValueError, match=r"^fixed: `sparsities` must be in \[0, 1\].*leaf 'c'"):
    d.fixed({'c': 90})
  with pytest.raises(TypeError, match=r"^fixed: `sparsities` must be a number.*leaf 'c'"):
    d.fixed({'c': None})


def random_scores(seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.integers(0, 9, shape), jnp.float32)
  shapes = {'a': (5, 7), 'c': (11,), 'd': (), 'e': (0, 3), 'f': (2, 3, 4)}
  return {name: draw(*shape) for name, shape in shapes.items()} | {'b': None}


@pytest.mark.parametrize('sparsity', [0, 0.1, 0.5, 0.77, 0.999, 1])
def test_global_is_what_each_leaf_loses(sparsity):
  scores = random_scores()
  params = jax.tree.map(lambda s: s, scores) | {'b': jnp.ones(4)}
  found = d.global_(params, scores, sparsity)
  names = [name for name, score in scores.items() if score is not None]
  flat = np.concatenate([np.asarray(scores[name]).ravel() for name in names])
  pruned = np.ones(flat.size, bool)
  pruned[np.argsort(-flat, kind='stable')[: flat.size - round(sparsity * flat.size)]] = False
  start = 0
  for name in names:
    size = scores[name].size
    expected = pruned[start : start + size].sum() / size if size else 0.0
    assert found[name] == expected
    start += size
  assert found['b'] is None


def test_selecting_leaf_by_leaf_gives_the_global_masks():
  scores = random_scores(1)
  found = d.global_({**scores, 'b': jnp.ones(4)}, scores, 0.6)
  one, two = masks.top_k(scores, found), masks.top_k_global(scores, 0.6)
  assert jax.tree.all(jax.tree.map(jnp.array_equal, one, two))


def test_global_needs_values():
  with pytest.raises(TypeError, match=r"^global_: `scores` .*got traced scores at leaf 'c'"):
    jax.jit(lambda s: d.global_({'c': s}, {'c': s}, 0.5))(jnp.ones(3))
  struct = {'c': jax.ShapeDtypeStruct((3,), jnp.float32)}
  with pytest.raises(TypeError, match=r"^global_: `scores` .*got a shape struct at leaf 'c'"):
    d.global_(struct, struct, 0.5)
