"""The house stays as it is: one place for each primitive, one reader of loops, rooms of a size."""

import ast
import pathlib

import pytest

from jprune.graph._rules.base import RULES

GRAPH = pathlib.Path(__file__).parents[2] / 'jprune' / 'graph'
FILES = sorted(GRAPH.rglob('*.py'))
# They are words of other things as well: of roles, attributes and reasons.
WORDS = {
  'and',
  'abs',
  'complex',
  'cond',
  'copy',
  'imag',
  'name',
  'not',
  'or',
  'real',
  'scan',
  'sub',
}
WORDS |= {'while', 'sign', 'max', 'min', 'round', 'sort', 'stack', 'reduce', 'pow', 'conj'}


def strings(path):
  """Literals of a file, docstrings aside."""
  tree = ast.parse(path.read_text())
  for node in ast.walk(tree):
    for child in ast.iter_child_nodes(node):
      child.parent = node
  return [
    node
    for node in ast.walk(tree)
    if isinstance(node, ast.Constant)
    and isinstance(node.value, str)
    and not isinstance(node.parent, (ast.Expr, ast.JoinedStr))
  ]


def primitives_in(path):
  """The names of primitives in its literals, by the expression that holds them."""
  found = {}
  for node in strings(path):
    names = set(node.value.split()) & RULES.keys() - WORDS
    if names and all(word in RULES for word in node.value.split()):
      found.setdefault(id(node.parent), set()).update(names)
  return list(found.values())


def test_no_room_has_more_than_thirteen_files():
  rooms = {path.parent for path in FILES}
  assert {room.name: n for room in rooms if (n := len(list(room.glob('*.py')))) > 13} == {}


@pytest.mark.parametrize('name', ['gather', 'reshape', 'conv_general_dilated'])
def test_what_is_known_of_a_primitive_stands_in_one_file(name):
  holders = [path for path in FILES if any(name in names for names in primitives_in(path))]
  assert [path.parent.name for path in holders] == ['_rules']


# A cause, and a way that entries were changed, which are worded like that.
WORDED = [('coupled.py', 'slice'), ('notes.py', 'stop_gradient')]


def test_only_rules_name_primitives():
  found = [
    (path.name, node.value)
    for path in FILES
    if path.parent.name != '_rules'
    for node in strings(path)
    if node.value.split() and all(word in RULES.keys() - WORDS for word in node.value.split())
  ]
  assert found == WORDED


def test_only_rules_list_primitives():
  lists = [
    (path.name, names)
    for path in FILES
    if path.parent.name != '_rules'
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, (ast.Tuple, ast.List, ast.Set, ast.Dict, ast.MatchOr))
    if len(names := listed(node) & RULES.keys()) > 1
  ]
  assert lists == []


def listed(node):
  """The words that a display or a pattern holds side by side."""
  if isinstance(node, ast.MatchOr):
    values = [each.value for each in node.patterns if isinstance(each, ast.MatchValue)]
  else:
    values = node.keys if isinstance(node, ast.Dict) else node.elts
  return {each.value for each in values if isinstance(each, ast.Constant)}


@pytest.mark.parametrize(
  'param', ['ft_in', 'num_carry', 'num_consts', 'cond_nconsts', 'body_nconsts']
)
def test_one_file_reads_the_params_of_loops(param):
  readers = [path for path in FILES if any(node.value == param for node in strings(path))]
  assert [path.name for path in readers] == ['calls.py']


def test_there_is_one_fixpoint():
  """Other loops compare or count something; what goes on until nothing changes has a flag."""
  flag = lambda test: test.operand if isinstance(test, ast.UnaryOp) else test
  loops = [
    path.name
    for path in FILES
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.While) and isinstance(flag(node.test), (ast.Constant, ast.Name))
  ]
  assert loops == ['dataflow.py']


def test_no_class_of_graph_has_the_name_of_another_one():
  classes = [
    (node.name, path.relative_to(GRAPH.parent).as_posix())
    for path in sorted(GRAPH.parent.rglob('*.py'))
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.ClassDef)
  ]
  of = {name: [path for other, path in classes if other == name] for name, _ in classes}
  twice = {name: paths for name, paths in of.items() if len(paths) > 1}
  in_graph = lambda paths: [path for path in paths if path.startswith('graph/')]
  assert {name: paths for name, paths in twice.items() if in_graph(paths)} == {}
