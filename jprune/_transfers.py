"""Between device and host, on purpose."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

_Args = ParamSpec('_Args')
_Result = TypeVar('_Result')


def meant(function: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
  """A function that looks at values on the host, which ``jax.transfer_guard`` needn't refuse."""

  @functools.wraps(function)
  def run(*args: _Args.args, **keywords: _Args.kwargs) -> _Result:
    with jax.transfer_guard('allow'):
      return function(*args, **keywords)

  return run
