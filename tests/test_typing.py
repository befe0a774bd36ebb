"""The script on which type checkers run calls all that is public."""

import ast
import inspect

import pytest

from tests import test_docs, typing_example


def _named() -> set[str]:
  """The dotted names in the script, those that it imports written out."""
  tree = ast.parse(inspect.getsource(typing_example))
  short = {'s': 'jprune.schedules', 't': 'jprune.tree', 'of': 'jprune.transforms'}
  found = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom):
      found |= {f'{node.module}.{each.name}' for each in node.names}
    elif isinstance(node, ast.Attribute):
      first, _, rest = ast.unparse(node).partition('.')
      found.add(f'{short.get(first, first)}.{rest}')
  return found


def test_the_script_names_all_that_is_public():
  public = test_docs._public_names().public_names()
  named = _named()
  seen = [value for name, value in public.items() if name in named]  # by any of its names
  missing = [name for name, value in public.items() if not any(value is each for each in seen)]
  assert missing == []


@pytest.mark.parametrize('part', [typing_example.scheduling, typing_example.trees])
def test_parts_of_the_script_run(part, capsys):
  given = (typing_example.weights(),) if inspect.signature(part).parameters else ()
  part(*given)
