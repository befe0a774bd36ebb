"""What all public signatures have in common, read from the public surface itself."""

import inspect
import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

import jprune
from jprune import sensitivity
from tests.test_docs import _public_names

FUNCTIONS = ('fn', 'evaluate')
TREES = ('params', 'scores', 'stats', 'masks')


def signatures():
  """The parameters of public functions, classes and methods, by name without ``jprune.``."""
  found = {}
  for name, value in _public_names().public_names().items():
    if not getattr(value, '__module__', '').startswith('jprune'):
      continue
    short = name.removeprefix('jprune.')
    if inspect.isfunction(value):
      found[short] = inspect.signature(value).parameters
    elif inspect.isclass(value):
      if '__init__' in vars(value) and not inspect.isabstract(value):
        found[short] = inspect.signature(value).parameters
      for method, function in vars(value).items():
        if inspect.isfunction(function) and method[0] != '_':
          found[f'{short}.{method}'] = inspect.signature(function).parameters
  return found


def positional(parameters):
  return [name for name, each in parameters.items() if each.kind == each.POSITIONAL_OR_KEYWORD]


def test_functions_first_trees_next():
  checked = 0
  for name, parameters in signatures().items():
    names = positional(parameters)
    order = [each in TREES for each in names if each in FUNCTIONS + TREES]
    if name.startswith('scores.'):  # scorer(params, **scorer_args)
      assert names[0] == 'params', name
    else:
      assert order == sorted(order), name
      checked += len(set(order)) == 2
  assert checked > 8


def test_repair_takes_params_then_statistics_then_what_goes():
  repair = {k: v for k, v in signatures().items() if k.startswith('reconstruct.') and 'stats' in v}
  for name, parameters in repair.items():
    first, second, third = positional(parameters)
    assert first in ('params', 'scores'), name
    assert second == 'stats', name
    assert third in ('masks', 'sparsity'), name
  assert len(repair) == 4


def test_keys_are_passed_by_name():
  checked = 0
  for name, parameters in signatures().items():
    if 'key' in parameters:  # of the states, which are tuples, nobody makes one by hand
      assert parameters['key'].kind == inspect.Parameter.KEYWORD_ONLY, name
      checked += 1
  assert checked > 12
  with pytest.raises(TypeError, match='positional'):
    jprune.scores.random({'w': jnp.ones(2)}, jax.random.key(0))
  with pytest.raises(TypeError, match='positional'):
    jprune.masks.bernoulli({'w': jnp.ones(2)}, 0.5, jax.random.key(0))


def test_one_default_of_strict():
  defaults = {k: v['strict'].default for k, v in signatures().items() if 'strict' in v}
  assert set(defaults) == {'shrink', 'graph.macs', 'graph.verify'}
  assert set(defaults.values()) == {True}


def test_patterns_stand_at_the_top():
  patterns = [
    name
    for name, value in vars(jprune.masks).items()
    if inspect.isclass(value) and hasattr(value, 'check')
  ]
  assert len(patterns) == 5
  for name in patterns:
    assert getattr(jprune, name) is getattr(jprune.masks, name)


def test_no_page_imports_masks_for_a_pattern():
  root = pathlib.Path(__file__).parents[2]
  pages = [root / 'README.md', *root.glob('docs/**/*.md'), *root.glob('examples/*')]
  needless = re.compile(
    r'import .*masks as \w+|from jprune\.masks import|jprune\.masks\.[A-Z]\w+\('
  )
  for page in filter(pathlib.Path.is_file, pages):
    assert not needless.findall(page.read_text()), page.name


def test_nobody_is_asked_who_calls():
  """What messages call the caller and its arguments is no part of a signature."""
  trees = {name: each for name, each in signatures().items() if name.startswith('tree.')}
  assert len(trees) > 12
  for name, parameters in trees.items():
    assert not {'function', 'argument', 'reference'} & set(parameters), name
  with pytest.raises(ValueError, match='along: `other` must be a tree with the structure'):
    jprune.tree.along({'w': 1}, {'v': 1})
  with pytest.raises(ValueError, match='by_leaf: `values` must be a tree with the structure'):
    jprune.tree.by_leaf({'w': 1}, {'v': 1})
  with pytest.raises(ValueError, match='selected: `where` must be'):
    jprune.tree.selected({'w': jnp.ones((2, 2))}, 'v')
  with pytest.raises(ValueError, match='matching: `where` must be'):
    jprune.tree.matching({'w': jnp.ones((2, 2))}, 'v')


def weigh(params, *args):
  return jnp.sum(params['w'])


@pytest.mark.parametrize(
  ('call', 'words'),
  [
    (lambda p: sensitivity.run(p, weigh, sparsity=0.5), 'run: `evaluate`'),
    (lambda p: sensitivity.curves(p, weigh), 'curves: `evaluate`'),
    (lambda p: jprune.synflow_prune(p, weigh, jnp.ones(3), sparsity=0.5), 'synflow_prune: `fn`'),
  ],
)
def test_params_first_are_told_where_they_go(call, words):
  name, argument = words.replace('`', '').split(': ')
  with pytest.raises(TypeError) as told:
    call({'w': jnp.ones((2, 2))})
  assert str(told.value) == (
    f'{words} must be a function, and `params` a tree of arrays; got dict and function. '
    f'Functions come first: {name}({argument}, params, ...).'
  )
  # a module that can be called goes for a function, a function never for params
  with pytest.raises(TypeError, match='Functions come first'):
    call(weigh)
