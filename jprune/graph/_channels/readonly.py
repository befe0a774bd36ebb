"""Dicts that can't be changed."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from jprune.graph import _errors

K = TypeVar('K')
V = TypeVar('V')


class ReadOnly(dict[K, V]):
  """A dict that stays as it is: to print, compare, pickle and write as JSON."""

  def __setitem__(self, key: Any, value: Any) -> NoReturn:
    raise _errors.read_only()

  def __delitem__(self, key: Any) -> NoReturn:
    raise _errors.read_only()

  def __ior__(self, other: Any) -> NoReturn:
    raise _errors.read_only()

  def clear(self) -> NoReturn:
    raise _errors.read_only()

  def pop(self, key: Any, default: Any = None) -> NoReturn:
    raise _errors.read_only()

  def popitem(self) -> NoReturn:
    raise _errors.read_only()

  def setdefault(self, key: Any, default: Any = None) -> NoReturn:
    raise _errors.read_only()

  def update(self, *args: Any, **kwargs: Any) -> NoReturn:
    raise _errors.read_only()

  def __reduce__(self) -> Any:
    return type(self), (dict(self),)
