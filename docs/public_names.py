"""The public surface of jprune, read from the package itself.

Used by the docs build (a public name without an API entry fails it) and by the tests (a
public name without a docstring or without an example fails them).
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from types import ModuleType

import jprune

INTERNAL: tuple[str, ...] = ()
"""Modules without an underscore that are not promised to users: none."""


def namespaces() -> list[str]:
  """The modules that users address: the package and its rooms."""
  rooms = [info.name for info in pkgutil.iter_modules(jprune.__path__)]
  return [
    'jprune',
    *(f'jprune.{r}' for r in sorted(rooms) if r[0] != '_' and r not in INTERNAL),
  ]


def names_of(module: ModuleType) -> list[str]:
  """Public names of a module."""
  return list(module.__all__)


def public_names() -> dict[str, object]:
  """``{'jprune.masks.apply': <function>, ...}``, of all public names but modules."""
  found = {}
  for namespace in namespaces():
    module = importlib.import_module(namespace)
    for name in names_of(module):
      value = getattr(module, name)
      if not inspect.ismodule(value):
        found[f'{namespace}.{name}'] = value
  return found


def undocumented() -> list[str]:
  """Public names without a docstring or without an example.

  An alias or another value has no docstring of its own: its module's examples show it.
  """
  problems = []
  for name, value in public_names().items():
    # an alias is someone else's class
    own = getattr(value, '__module__', '').startswith('jprune')
    if own and (inspect.isclass(value) or inspect.isroutine(value)):
      doc = (
        ''
        if inspect.isclass(value) and '__doc__' not in vars(value)
        else value.__doc__ or ''
      )
      if not doc.strip():
        problems.append(f'{name} has no docstring')
      elif 'Examples:' not in doc:
        problems.append(f'{name} has no Examples section')
    elif not _is_shown(name):
      problems.append(f'{name} is in no example of its module')
  return problems


def _is_shown(name: str) -> bool:
  namespace, _, alias = name.rpartition('.')
  _, _, examples = (importlib.import_module(namespace).__doc__ or '').partition(
    'Examples:'
  )
  return re.search(rf'>>> .*\b{alias}\b', examples) is not None
