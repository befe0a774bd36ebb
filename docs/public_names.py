"""The public surface of jprune, read from the package itself.

Used by the docs build (a public name without an API entry fails it) and by the tests (a public
name without a docstring or without an example fails them).
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pathlib
import pkgutil
from types import ModuleType

import jprune

INTERNAL: tuple[str, ...] = ()
"""Modules without an underscore that are not promised to users: none."""


def namespaces() -> list[str]:
  """The modules that users address: the package and its rooms."""
  rooms = [info.name for info in pkgutil.iter_modules(jprune.__path__)]
  return ['jprune', *(f'jprune.{r}' for r in sorted(rooms) if r[0] != '_' and r not in INTERNAL)]


def names_of(module: ModuleType) -> list[str]:
  """Public names of a module: ``__all__``, else ``x as x`` imports, else what it defines."""
  if hasattr(module, '__all__'):
    return list(module.__all__)
  body = ast.parse(pathlib.Path(module.__file__).read_text()).body
  exported = [
    alias.asname
    for node in body
    if isinstance(node, (ast.Import, ast.ImportFrom))
    for alias in node.names
    if alias.asname and alias.asname == alias.name
  ]
  return exported or [name for name in _defined(body) if not name.startswith('_')]


def _defined(body: list[ast.stmt]) -> list[str]:
  names = []
  for node in body:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
      names.append(node.name)
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
      names.append(node.target.id)
    elif isinstance(node, ast.Assign):
      names += [target.id for target in node.targets if isinstance(target, ast.Name)]
  return names


def public_names() -> dict[str, object]:
  """``{'jprune.masks.apply': <function>, ...}`` for every public name that is not a module."""
  found = {}
  for namespace in namespaces():
    module = importlib.import_module(namespace)
    for name in names_of(module):
      value = getattr(module, name)
      if not inspect.ismodule(value):
        found[f'{namespace}.{name}'] = value
  return found


def undocumented() -> list[str]:
  """Public functions and classes without a docstring, or functions without an example.

  The names in ``jprune.typing`` are words for signatures; they need no example.
  """
  problems = []
  for name, value in public_names().items():
    if not (inspect.isclass(value) or inspect.isroutine(value)):
      continue
    doc = value.__doc__ or ''
    if inspect.isclass(value) and '__doc__' not in vars(value):
      doc = ''
    if not doc.strip():
      problems.append(f'{name} has no docstring')
    elif 'Examples:' not in doc and not name.startswith('jprune.typing.') and not _is_state(value):
      problems.append(f'{name} has no Examples section')
  return problems


def _is_state(value: object) -> bool:
  """Optimizer states are made by their transform, which shows the example."""
  return inspect.isclass(value) and value.__name__.endswith('State')
