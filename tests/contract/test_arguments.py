"""What every public call refuses alike: leaves of dtypes that JAX lacks, and bools for numbers."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune import distributions, masks, reconstruct, schedules, scores, sensitivity
from tests.test_docs import _public_names

WEIGHTS = {'w': np.arange(32, dtype=np.float32).reshape(4, 8)}
FOREIGN = {
  'float128': np.ones((2, 2), np.longdouble),
  'complex256': np.ones((2, 2), np.clongdouble),
  'object': np.full((2, 2), None),
  '<U3': np.full((2, 2), 'abc'),
  '|S3': np.full((2, 2), b'abc'),
  r'datetime64\[s\]': np.zeros((2, 2), 'datetime64[s]'),
  r'timedelta64\[s\]': np.zeros((2, 2), 'timedelta64[s]'),
  r'\|V4': np.zeros((2, 2), 'V4'),
  r"\[\('a', '<f4'\)\]": np.zeros((2, 2), [('a', np.float32)]),
}
# how they read on platforms where long doubles are doubles is their own affair
FOREIGN = {
  name: leaf for name, leaf in FOREIGN.items() if leaf.dtype.name not in ('float64', 'complex128')
}


def takers():
  """Public functions of trees of params or scores; those of ``tree`` work for the others."""
  found = {}
  for name, value in _public_names().public_names().items():
    others = ('jprune.tree.', 'jprune.typing.', 'jprune.sensitivity.allocate')
    others += ('jprune.save_shrunk', 'jprune.io.save_shrunk')  # what jprune.shrink returns
    if inspect.isfunction(value) and not name.startswith(others):
      arguments = inspect.signature(value).parameters
      if {'params', 'scores'} & set(arguments):
        found[name] = value
  return found


def called(function, tree):
  """With the tree for params and scores, and something callable for all else that is needed."""
  keywords, args = {}, []
  for name, each in inspect.signature(function).parameters.items():
    value = tree if name in ('params', 'scores') else lambda *args: 0.5
    value = 'odd.safetensors' if name == 'path' else value
    if each.kind == each.KEYWORD_ONLY and each.default is each.empty:
      keywords[name] = value
    elif each.kind == each.POSITIONAL_OR_KEYWORD and (
      name in ('params', 'scores') or each.default is each.empty
    ):
      args.append(value)
  return function(*args, **keywords)


@pytest.mark.parametrize('name', takers())
def test_foreign_dtypes_are_named_first(name):
  function, tree = takers()[name], {'layer': {'odd': FOREIGN['object'], **WEIGHTS}}
  constraint = "arrays of (dtypes that JAX has|numbers or bools); got object .* at leaf 'layer/odd'"
  with pytest.raises(
    TypeError, match=f'{function.__name__}: `(params|scores)` must .*{constraint}'
  ):
    called(function, tree)


@pytest.mark.parametrize('dtype', FOREIGN)
def test_every_foreign_dtype(dtype):
  wanted = rf'prune: `params` must be arrays of dtypes that JAX has; got {dtype} of shape \(2, 2\)'
  with pytest.raises(TypeError, match=wanted + " at leaf 'odd'. Cast it, for example to float32"):
    jprune.prune({'odd': FOREIGN[dtype], **WEIGHTS}, 0.5, where='w')


@pytest.mark.parametrize(
  'tx', [jprune.keep_pruned, jprune.mask_updates], ids=lambda tx: tx.__name__
)
def test_transforms_refuse_foreign_dtypes(tx):
  with pytest.raises(TypeError, match=f'{tx.__name__}: `params` must be arrays of dtypes'):
    tx({'odd': None}).init({'odd': FOREIGN['object']})


def test_a_fixed_distribution_refuses_foreign_dtypes():
  params = {'odd': FOREIGN['object'], **WEIGHTS}
  with pytest.raises(TypeError, match='fixed: `params` must be arrays of dtypes'):
    distributions.fixed({'w': 0.5})(params, params)


def test_leaves_that_are_no_arrays_are_let_through():
  found = jprune.prune({'activation': abs, 'name': 'relu', **WEIGHTS}, 0.5)
  assert found['activation'] is None
  assert found['name'] is None


NUMBERS = {
  'prune': lambda x: jprune.prune(WEIGHTS, x),
  'prune global_': lambda x: jprune.prune(WEIGHTS, x, distribution=distributions.global_),
  'prune of a distribution': lambda x: jprune.prune(
    WEIGHTS, 0.5, distribution=lambda p, s, _: {'w': x}
  ),
  'top_k': lambda x: masks.top_k(WEIGHTS, x),
  'top_k by leaf': lambda x: masks.top_k(WEIGHTS, {'w': x}),
  'top_k_global': lambda x: masks.top_k_global(WEIGHTS, x),
  'top_k_rows': lambda x: masks.top_k_rows(WEIGHTS, x),
  'threshold': lambda x: masks.threshold(WEIGHTS, x),
  'bernoulli': lambda x: masks.bernoulli(WEIGHTS, x, key=jax.random.key(0)),
  'n_of_m n': lambda x: masks.n_of_m(WEIGHTS, x, 2),
  'n_of_m m': lambda x: masks.n_of_m(WEIGHTS, 1, x),
  'NOfM': lambda x: masks.NOfM(x, 2),
  'Block': lambda x: masks.Block((x, 2)),
  'Channel': lambda x: masks.Channel(x),
  'uniform': lambda x: distributions.uniform(WEIGHTS, WEIGHTS, x),
  'er': lambda x: distributions.er(WEIGHTS, WEIGHTS, x),
  'erk': lambda x: distributions.erk(WEIGHTS, WEIGHTS, x),
  'erk power': lambda x: distributions.erk(power=x),
  'global_': lambda x: distributions.global_(WEIGHTS, WEIGHTS, x),
  'owl': lambda x: distributions.owl(WEIGHTS, WEIGHTS, x),
  'owl lam': lambda x: distributions.owl(WEIGHTS, WEIGHTS, 0.5, lam=x),
  'fixed': lambda x: distributions.fixed({'w': x}),
  'constant': lambda x: schedules.constant(x),
  'one_shot': lambda x: schedules.one_shot(x, at=3),
  'linear': lambda x: schedules.linear(x, 0.5, 0, 9),
  'cubic': lambda x: schedules.cubic(0.0, x, 0, 9),
  'cosine': lambda x: schedules.cosine(0.0, x, 0, 9),
  'exponential': lambda x: schedules.exponential(x, 0.5, 0, 9),
  'synflow_prune': lambda x: jprune.synflow_prune(_sum, WEIGHTS, sparsity=x),
  'synflow_prune rounds': lambda x: jprune.synflow_prune(_sum, WEIGHTS, sparsity=0.5, rounds=x),
  'reconstruct.prune': lambda x: reconstruct.prune(_sum, WEIGHTS, [jnp.ones(3)], sparsity=x),
  'magnitude': lambda x: scores.magnitude(WEIGHTS, p=x),
  'curves': lambda x: sensitivity.curves(lambda p: 1.0, WEIGHTS, [x]),
  'run': lambda x: sensitivity.run(lambda p: 1.0, WEIGHTS, sparsity=x),
  'search': lambda x: sensitivity.search(lambda p: 1.0, lambda s: s, min_metric=0.5, high=x),
}


def _sum(params, *_):
  return jnp.sum(params['w'])


@pytest.mark.parametrize('name', NUMBERS)
def test_a_bool_is_no_number(name):
  for value in (True, np.True_, jnp.asarray(True), np.asarray(False)):
    with pytest.raises(
      (TypeError, ValueError), match=r'must be (a number|an int).*; got .*(True|False)'
    ):
      NUMBERS[name](value)


def test_a_traced_bool_is_no_sparsity():
  with pytest.raises(TypeError, match='prune: `sparsity` must be a number; got'):
    jax.jit(lambda x: jprune.prune(WEIGHTS, x))(True)
