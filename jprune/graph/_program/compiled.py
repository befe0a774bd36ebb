"""What was compiled for a function, kept as long as the function lives."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

_MOST = 256  # beyond these, what was used longest ago goes

_Made = TypeVar('_Made')


class Compiled:
  """Results of ``make(fn)``, made once for each function and key.

  Functions are told apart as objects are, but for bound methods, which are one if object and method
  are. Nothing here keeps them alive: ``make`` gets a stand-in that calls the function as long as it
  lives, and what was made goes with it. Of what can't be referred to weakly nothing is kept.
  """

  def __init__(self) -> None:
    self._made: dict[Hashable, tuple[Any, Any]] = {}

  def of(
    self, fn: Callable[..., Any], key: Hashable, make: Callable[[Callable[..., Any]], _Made]
  ) -> _Made:
    method = inspect.ismethod(fn)
    who = (id(fn.__self__), id(fn.__func__)) if method else (id(fn),)
    place = (who, key)
    if found := self._made.pop(place, None):
      self._made[place] = found  # as the last one
      return found[1]

    def drop(_: Any) -> None:
      self._made.pop(place, None)

    try:
      refer = weakref.WeakMethod(fn, drop) if method else weakref.ref(fn, drop)
    except TypeError:
      return make(lambda *args: fn(*args))  # which has a hash, whether or not the function has

    def stand_in(*args: Any) -> Any:
      function = cast(Callable[..., Any], refer())  # else what was made is gone as well
      return function(*args)

    made = make(stand_in)
    self._made[place] = (refer, made)
    while len(self._made) > _MOST:
      self._made.pop(next(iter(self._made)), None)
    return made
