"""Names of primitives are of primitives that there are: those of rules, and in tables with them."""

import ast
import importlib
import pathlib
import sys

import jax
import pytest
from jax.extend import core

import jprune
from jprune.graph._rules.base import RULES

# What not every admitted JAX has, which computes it by others: from which one on, until which.
SINCE = {
  **dict.fromkeys(('stack', 'tile', 'unstack'), (0, 9)),
  **dict.fromkeys(('log2', 'one_minus_square'), (0, 11, 2)),
  'polynomial': (0, 12),
}
UNTIL = {'closed_call': (0, 11, 1)}
GRAPH = pathlib.Path(jprune.__file__).parent / 'graph'
FILES = [path for room in ('_program', '_rules') for path in sorted((GRAPH / room).glob('*.py'))]


def primitives_of(package):
  """By name, from all modules of a package that are imported."""
  modules = [module for name, module in list(sys.modules.items()) if name.split('.')[0] == package]
  values = [value for module in modules for value in list(vars(module).values())]
  return {value.name for value in values if isinstance(value, core.Primitive)}


def test_every_rule_is_of_a_primitive():
  importlib.import_module('equinox.internal')
  of_jax, of_equinox = primitives_of('jax'), primitives_of('equinox')
  missing = RULES.keys() - of_jax - of_equinox
  newer = {name for name, first in SINCE.items() if jax.__version_info__ < first}
  older = {name for name, first in UNTIL.items() if jax.__version_info__ >= first}
  assert missing == newer | older
  assert {'maybe_set', 'unvmap_any'} <= RULES.keys() & of_equinox - of_jax


def words(node):
  """The strings of an expression that holds several, or one with spaces."""
  match node:
    case ast.Tuple() | ast.List() | ast.Set():
      parts = node.elts
    case ast.Dict():
      parts = node.keys
    case ast.Constant(str()) | ast.JoinedStr():
      parts = [node]
    case _:
      return []
  found = []
  for part in parts:
    pieces = part.values if isinstance(part, ast.JoinedStr) else [part]
    texts = [x.value for x in pieces if isinstance(x, ast.Constant) and isinstance(x.value, str)]
    found += [word for text in texts for word in text.split()]
  return found


@pytest.mark.parametrize('path', FILES, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_tables_name_what_has_a_rule(path):
  """A list of which most words are names of primitives has no other."""
  tables = [words(node) for node in ast.walk(ast.parse(path.read_text()))]
  tables = [table for table in tables if len(table) > 1]
  named = [table for table in tables if 2 * len(RULES.keys() & set(table)) > len(table)]
  assert [set(table) - RULES.keys() for table in named if set(table) - RULES.keys()] == []
