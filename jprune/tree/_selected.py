"""The leaves that a filter selects: ``where=``, ``keep=`` and the like.

Each selection is there twice: for users, and, by the name ``..._for``, for calls that say in a
message who asks, and what the filter is called there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jprune import _checks, _roles
from jprune.tree import _errors
from jprune.tree._along import along_for
from jprune.tree._paths import flatten, is_array, is_inexact, shapes, size
from jprune.tree._quantised import scales_of
from jprune.tree._where import skipped
from jprune.typing import Params, Where


def selected(
  params: Params, where: Where = None, roles: Mapping[str, _roles.Role] | None = None
) -> list[bool]:
  """Which leaves ``where`` selects, in tree order.

  Predicates, trees of bools, :class:`~jprune.graph.Roles` (their kernels) and, in a list, the exact
  paths of leaves choose exactly. Regular
  expressions narrow the default: of what they find, they take what :func:`skipped` has no reason
  to leave out.

  Args:
    params: tree of arrays.
    where: any kind of :data:`jprune.typing.Where`.
    roles: what a function does with each leaf, by path: :func:`jprune.graph.roles`. By default
      names tell.

  Returns:
    A Python bool for each leaf.

  Raises:
    ValueError: if there is no leaf at all, or none is selected, or an entry of a list selects none;
      if a regular expression is malformed, or finds only what the default leaves out; if the roles
      are of other leaves; if the default, or a regular expression, comes upon quantised weights.
    TypeError: if ``where`` is of no known kind, or a selected leaf is not a floating array.

  Examples:
    >>> params = {'Dense_0': {'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(3)}}
    >>> selected(params), selected(params, ['Dense_0/bias'])
    ([False, True], [True, False])
  """
  return selected_for('selected', params, where, roles)


def selected_for(
  function: str, params: Params, where: Where = None, roles: Mapping[str, _roles.Role] | None = None
) -> list[bool]:
  """:func:`selected` for a function with an argument ``where``."""
  paths, leaves, _ = flatten(params)
  if not leaves:
    raise _checks.empty_tree(function)
  _checks.check_no_masks(function, leaves)
  if isinstance(where, _roles.Roles):
    where, roles = None, where
  if roles is not None:
    _roles.check(function, shapes(params), roles)
  if _is_bool_tree(where):
    chosen = [bool(value) for value in along_for(function, 'where', params, where)]
  else:
    chosen = _filtered(function, where, paths, leaves, skipped(params, roles))
  if not any(size(leaf) for leaf, yes in zip(leaves, chosen) if yes and is_array(leaf)):
    raise _errors.nothing_selected(function, where, paths)
  for path, leaf, yes in zip(paths, leaves, chosen):
    if yes and not is_inexact(leaf):
      raise _checks.not_floating(function, 'where', path, leaf)
  return chosen


def matching(params: Params, where: Where) -> list[bool]:
  """Which leaves a filter names, whatever they are, in tree order.

  Args:
    params: tree of arrays.
    where: any kind of :data:`jprune.typing.Where` but ``None``; a regular expression is searched
      for in the paths of all leaves.

  Returns:
    A Python bool for each leaf.

  Raises:
    ValueError: if nothing is named, by an entry of a list neither; if a regular expression is
      malformed.
    TypeError: if the filter is of no known kind.

  Examples:
    >>> params = {'Dense_0': {'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(3)}}
    >>> matching(params, 'Dense')
    [True, True]
  """
  return matching_for('matching', 'where', params, where)


def matching_for(function: str, argument: str, params: Params, chosen: Where) -> list[bool]:
  """:func:`matching` for a function with an argument that is a filter."""
  paths, leaves, _ = flatten(params)
  if _is_bool_tree(chosen):
    named = [bool(value) for value in along_for(function, argument, params, chosen)]
  elif isinstance(chosen, (list, tuple)) and chosen:
    exact = lambda entry: [path == entry for path in paths]
    each = [
      exact(entry) if entry in paths else matching_for(function, f'{argument}[{i}]', params, entry)
      for i, entry in enumerate(chosen)
    ]
    named = [any(column) for column in zip(*each)]
  elif isinstance(chosen, (str, re.Pattern)):
    named = _searched(function, chosen, paths, argument)
  elif callable(chosen):
    answers = (chosen(path, leaf) for path, leaf in zip(paths, leaves))
    named = [_checks.as_bool(function, a, path, argument) for a, path in zip(answers, paths)]
  else:
    raise _errors.bad_where(function, chosen, argument)
  if not any(named):
    raise _errors.nothing_selected(function, chosen, paths, argument)
  return named


def _filtered(
  function: str,
  where: Where,
  paths: list[str],
  leaves: list[Any],
  why: list[str | None],
  argument: str = 'where',
) -> list[bool]:
  """Which leaves any filter but a tree of bools selects."""
  if isinstance(where, (list, tuple)) and where:
    chosen = [False] * len(paths)
    for i, each in enumerate(where):
      entry = f'{argument}[{i}]'
      if isinstance(each, str) and each in paths:
        more = [path == each for path in paths]
      else:
        more = _filtered(function, each, paths, leaves, why, entry)
      if not any(more):
        raise _errors.nothing_selected(function, each, paths, entry)
      chosen = [one or other for one, other in zip(chosen, more)]
    return chosen
  if where is None or isinstance(where, (str, re.Pattern)):
    found = [True] * len(paths) if where is None else _searched(function, where, paths, argument)
    _refuse_quantised(function, paths, leaves, found)
    chosen = [yes and each is None for yes, each in zip(found, why)]
    if where is not None and any(found) and not any(chosen):
      raise _only_skipped(function, where, paths, leaves, found, why, argument)
    return chosen
  if callable(where):
    answers = [(where(path, leaf), path) for path, leaf in zip(paths, leaves)]
    return [_checks.as_bool(function, answer, path, argument) for answer, path in answers]
  raise _errors.bad_where(function, where, argument)


def _searched(
  function: str, where: str | re.Pattern[str], paths: list[str], argument: str = 'where'
) -> list[bool]:
  try:
    pattern = re.compile(where)
  except re.error as error:
    raise _errors.bad_regex(function, where, error, argument) from None
  return [pattern.search(path) is not None for path in paths]


def _only_skipped(
  function: str,
  where: Any,
  paths: list[str],
  leaves: list[Any],
  found: list[bool],
  why: list[str | None],
  argument: str,
) -> Exception:
  """The error for a pattern that finds only what the default leaves out."""
  there = [i for i, yes in enumerate(found) if yes]
  if not any(is_array(leaves[i]) and size(leaves[i]) for i in there):
    return _errors.nothing_selected(function, where, paths, argument)
  floating = [i for i in there if is_inexact(leaves[i])]
  if not floating:
    return _checks.not_floating(function, argument, paths[there[0]], leaves[there[0]])
  return _errors.only_skipped(function, where, [(paths[i], why[i]) for i in floating], argument)


def _refuse_quantised(
  function: str, paths: list[str], leaves: list[Any], found: list[bool]
) -> None:
  dtypes = [str(leaf.dtype) if is_array(leaf) else None for leaf in leaves]
  for path, leaf, yes, scale in zip(paths, leaves, found, scales_of(paths, dtypes)):
    if yes and scale is not None:
      raise _errors.quantised(function, path, leaf, scale)


def _is_bool_tree(where: Where) -> bool:
  leaves = jax.tree.leaves(where)
  return bool(leaves) and all(isinstance(leaf, (bool, np.bool_)) for leaf in leaves)
