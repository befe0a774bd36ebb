"""Dicts that can't be changed."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from jprune.graph import _errors

K = TypeVar('K')
V = TypeVar('V')


class ReadOnly(dict[K, V]):
  """A dict that stays as it is: to print, compare, pickle and write as JSON."""

  def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
    raise _errors.read_only()

  __setitem__ = __delitem__ = __ior__ = _refuse
  clear = pop = popitem = setdefault = update = _refuse

  def __reduce__(self) -> Any:
    return type(self), (dict(self),)
