"""What ``help()``, ``dir()`` and editors find in the public namespaces."""

import ast
import importlib
import inspect
import pathlib
import pydoc
import re

import pytest

import jprune
from tests.test_docs import _public_names

NAMESPACES = _public_names().namespaces()


def _own(body):
  """Names that a module makes public: imported as themselves, or defined without underscore."""
  found = set()
  for node in body:
    if isinstance(node, ast.If):  # for type checkers
      found |= _own(node.body)
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
      found |= {each.name for each in node.names if each.asname == each.name}
    elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
      found.add(node.name)
    elif isinstance(node, ast.AnnAssign):
      found.add(node.target.id)
  return {name for name in found if name[0] != '_'}


@pytest.mark.parametrize('name', NAMESPACES)
def test_all_lists_what_there_is(name):
  module = importlib.import_module(name)
  assert len(set(module.__all__)) == len(module.__all__)
  own = _own(ast.parse(pathlib.Path(module.__file__).read_text()).body)
  if name == 'jprune':
    own -= {'equinox', 'nnx'}  # for which `from jprune import *` would need more packages
  assert set(module.__all__) == own
  assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize('name', NAMESPACES)
def test_nothing_else_is_shown(name):
  module = importlib.import_module(name)
  assert {name for name in dir(module) if name[0] != '_'} == set(module.__all__)


@pytest.mark.parametrize('name', NAMESPACES)
def test_help_lists_all_and_shows_no_address(name):
  module = importlib.import_module(name)
  text = pydoc.render_doc(module, renderer=pydoc.plaintext)
  for each in module.__all__:
    value = getattr(module, each)
    if not getattr(value, '__module__', '').startswith('jprune'):
      continue  # an alias of something else, or a module
    shown = rf'class {each}\b' if inspect.isclass(value) else rf'^    {each}\b'
    assert re.search(shown, text, re.MULTILINE), each
  assert re.findall('.* at 0x.*', text) == []


@pytest.mark.parametrize('name', [name for name in NAMESPACES if name != 'jprune'])
def test_what_a_namespace_says_of_itself_names_its_functions(name):
  module = importlib.import_module(name)
  functions = [each for each in module.__all__ if inspect.isroutine(getattr(module, each))]
  assert [each for each in functions if not re.search(rf'\b{each}\b', module.__doc__)] == []


def test_defaults_that_are_functions_are_shown_by_name_and_stay_functions():
  signature = inspect.signature(jprune.prune)
  assert "scorer: 'Scorer | Scores' = magnitude, " in str(signature)
  assert str(signature.parameters['distribution']).endswith('= uniform')
  assert signature.parameters['scorer'].default is jprune.scores.magnitude
  assert str(signature.replace(return_annotation=None)).count('magnitude') == 1
