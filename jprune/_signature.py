"""Signatures as ``help()`` and editors show them: functions by name, not by address."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar('F', bound=Callable[..., Any])

_ADDRESS = re.compile(r'<function (?:\w+\.)*(\w+) at 0x[0-9a-fA-F]+>')


def readable(function: F) -> F:
  """The function itself; where a default is a function, its signature shows that by name."""
  found = inspect.signature(function)
  parameters = [
    _Parameter(each.name, each.kind, default=each.default, annotation=each.annotation)
    for each in found.parameters.values()
  ]
  signature = _Signature(parameters, return_annotation=found.return_annotation)
  function.__signature__ = signature
  return function


def _by_name(text: str) -> str:
  return _ADDRESS.sub(r'\1', text)


class _Parameter(inspect.Parameter):
  """A parameter like any other; IPython shows them one by one."""

  __slots__ = ()

  def __str__(self) -> str:
    return _by_name(super().__str__())


class _Signature(inspect.Signature):
  """A signature like any other; ``help()`` shows it, by ``format`` from Python 3.13 on."""

  __slots__ = ()

  def __str__(self) -> str:
    return _by_name(super().__str__())

  def format(self, **options: Any) -> str:
    return _by_name(super().format(**options))  # pyright: ignore[reportAttributeAccessIssue]
