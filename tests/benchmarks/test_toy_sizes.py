"""Each benchmark runs, at toy size, and on nothing that a user couldn't call."""

import ast
import importlib
import json
import pathlib

import jax
import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parent
NAMES = sorted(file.stem for file in FOLDER.glob('[!_]*.py') if not file.stem.startswith('test_'))
each = pytest.mark.parametrize('name', NAMES)


@each
def test_runs_at_toy_size(name, capsys):
  module = importlib.import_module(f'tests.benchmarks.{name}')
  # JAX as it is out of the box
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    module.main(module.TOY.split())
  table, _, numbers = capsys.readouterr().out.rstrip().rpartition('\n')
  assert table
  found = jax.tree.leaves(json.loads(numbers))
  assert found
  assert np.isfinite(found).all()


def private(source):
  """What is read of jprune under a name that starts with an underscore."""
  nodes, ours = list(ast.walk(ast.parse(source))), {}
  for node in nodes:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
      above = [node.module] if isinstance(node, ast.ImportFrom) else []
      for alias in node.names:
        full = '.'.join([*above, alias.name])
        if full.split('.')[0] == 'jprune':
          ours[alias.asname or alias.name.split('.')[0]] = full
  read = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
  names = {*ours.values(), *(name for name in read if name.split('.')[0] in ours)}
  hidden = lambda word: word.startswith('_') and not word.endswith('__')
  return {name for name in names if any(map(hidden, name.split('.')))}


@each
def test_calls_public_names_only(name):
  assert private((FOLDER / f'{name}.py').read_text()) == set()


@pytest.mark.parametrize(
  'line',
  [
    'from jprune._program import walk',
    'from jprune.masks import _flat',
    'import jprune.masks._flat',
    'import jprune\njprune.masks._flat.select(x)',
    'from jprune import masks\nmasks._flat',
  ],
)
def test_private_names_are_found(line):
  assert private(line)
  assert not private('import jprune\nfrom jprune import masks\njprune.__version__, masks.top_k')
