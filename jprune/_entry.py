"""What public calls do before anything else, and what JAX's transfer guard sees of them.

Under ``jax.transfer_guard('disallow')`` operations outside of ``jit`` may not even have a Python
number as operand: ``x * 2`` and ``jnp.zeros(3)`` are refused. A call of this library moves its own
constants, counts and, where they are NumPy's, its arguments, on purpose: as explicitly as
``jax.device_put`` does. So 'disallow' lets it, and 'disallow_explicit' doesn't.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import jax

from jprune import _checks, tree

P = ParamSpec('P')
R = TypeVar('R')

_IMPLICIT = ('disallow', 'log')
_TRACEABLE = (bool, int, float, complex)
_GUARDS = ('host_to_device', 'device_to_device', 'device_to_host')
_TREES = ('params', 'scores')
_FUNCTIONS = ('fn', 'loss_fn', 'evaluate')


class Opened:
  """What holds the trees of a checkpoint, and is none itself."""


class InFile:
  """A leaf that is in a file."""


def public(
  function: Callable[P, R], name: str | None = None, opened: bool = False, runs: bool = False
) -> Callable[P, R]:
  """The function, explicit in its transfers, once its trees hold nothing that JAX can't.

  Args:
    function: whose arguments ``params`` and ``scores`` are looked at.
    name: of the function in messages, if it isn't its own.
    opened: whether it takes an opened checkpoint in place of a tree.
    runs: whether leaves go into a compiled program, for which they have to be read.
  """
  parameters = inspect.signature(function).parameters
  places = {argument: place for place, argument in enumerate(parameters)}
  takes_more = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
  variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
  needed = [p.name for p in parameters.values() if p.default is p.empty and p.kind not in variadic]
  named = name or function.__name__

  @functools.wraps(function)
  def call(*args: P.args, **kwargs: P.kwargs) -> R:
    given = lambda at: args[places[at]] if places[at] < len(args) else kwargs.get(at)
    for argument in kwargs:
      if argument not in places:  # of a scorer, unless it looks like one that isn't given
        missing = [at for at in needed if places[at] >= len(args) and at not in kwargs]
        if not takes_more or difflib.get_close_matches(argument, missing, 1):
          raise _checks.unknown_argument(named, argument, list(places))
    for argument in _FUNCTIONS:
      if argument in places and places[argument] < places.get('params', -1):
        _checks.check_functions_first(named, argument, given(argument), given('params'))
    for argument in _TREES:
      if argument in places and not (opened and isinstance(given(argument), Opened)):
        check_dtypes(named, given(argument), argument)
        if runs:
          _check_read(named, given(argument), argument, opened)
    try:
      with _explicit():
        return function(*args, **kwargs)
    except Exception as error:
      for argument in _FUNCTIONS:
        if argument in places and given(argument) is not None:
          params = given('params') if 'params' in places else None
          better = _checks.misunderstood(named, argument, given(argument), params, error)
          if better is not None:
            raise better from error
      raise

  return call


def explicit(function: Callable[P, R]) -> Callable[P, R]:
  """The function, whose transfers count as explicit."""

  @functools.wraps(function)
  def call(*args: P.args, **kwargs: P.kwargs) -> R:
    with _explicit():
      return function(*args, **kwargs)

  return call


@contextlib.contextmanager
def _explicit() -> Iterator[None]:
  """Lifts the guard of implicit transfers; that of explicit ones stays."""
  with contextlib.ExitStack() as stack:
    for way in _GUARDS:
      if getattr(jax.config, f'jax_transfer_guard_{way}') in _IMPLICIT:
        stack.enter_context(getattr(jax, f'transfer_guard_{way}')('allow'))
    yield


def check_dtypes(function: str, given: Any, argument: str = 'params') -> None:
  """Refuses leaves of dtypes that JAX lacks, by name, and what is no tree of params at all.

  Leaves that are no arrays are let through. A checkpoint isn't: as a leaf it would be passed over
  without a word.
  """
  check_is_tree(function, given, argument)
  if all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(given)):
    return
  for path, leaf in zip(*tree.flatten(given)[:2]):
    if isinstance(leaf, Opened):
      raise _checks.opened(function, argument, path, leaf)
    if tree.is_array(leaf):
      _checks.check_dtype(function, argument, path, leaf)


def check_is_tree(function: str, given: Any, argument: str = 'params') -> None:
  """Refuses what is no tree of params at all, whatever its leaves."""
  _checks.check_tree(function, argument, given)
  if not isinstance(given, Opened) and (error := _checks.not_a_tree(function, argument, given)):
    raise error


def _check_read(function: str, given: Any, argument: str, opened: bool) -> None:
  for path, leaf in zip(*tree.flatten(given)[:2]):
    if isinstance(leaf, InFile):
      raise _checks.in_file(function, argument, path, leaf, opened)
    if argument == 'params' and not isinstance(leaf, _TRACEABLE) and not tree.is_array(leaf):
      raise _checks.not_an_array(function, path, leaf, given)
