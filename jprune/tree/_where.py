"""Which leaves ``where`` selects, and why its default leaves the others out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jprune import _checks, _roles
from jprune.tree import _errors, _names
from jprune.tree._named_roles import stack_depths
from jprune.tree._paths import along, flatten, is_array, is_inexact, shapes, size
from jprune.tree._quantised import scales_of
from jprune.typing import Params, Where

_STATE = ('in the collection', 'running statistics', 'state by')  # how reasons of state begin


def skipped(params: Params, roles: Mapping[str, Any] | None = None) -> list[str | None]:
  """Why the default, ``where=None``, doesn't select leaves, in tree order; ``None`` where it does.

  With roles it selects kernels. Without it is careful: floating leaves of at least two axes longer
  than 1 (of any, if they are called ``kernel``, ``weight`` or ``w``), outside collections of state,
  whose names aren't those of biases, scales and offsets, norms, class tokens, position tables or
  state, in the words of linen, NNX, Haiku, Equinox, Keras, Hugging Face and others. A bias is one
  however many axes it has: ``(heads, dims)`` in attention,
  ``(layers, units)`` in a stack of layers. Names that may be those of matrices go by what stands
  beside them: ``b`` is a bias beside a ``w`` that has its axes and more.

  Args:
    params: tree of arrays.
    roles: what a function does with each leaf, by path: :func:`jprune.graph.roles`.

  Returns:
    A phrase or ``None`` for each leaf.

  Examples:
    >>> params = {'kernel': jnp.ones((3, 2, 4)), 'bias': jnp.ones((2, 4)), 'cls': jnp.ones((1, 4))}
    >>> skipped(params)
    ['a bias by its name', 'a token by its name', None]
  """
  paths, leaves, _ = flatten(params)
  if roles is None:
    why = [state or name for state, name in zip(_state_by_type(params), _by_names(paths, leaves))]
    flat = [is_array(leaf) and len(leaf.shape) < 2 for leaf in leaves]
    why = [None if yes else each for yes, each in zip(flat, why)]  # that says more than a name
    depths = stack_depths({p: tuple(x.shape) for p, x in zip(paths, leaves) if is_array(x)})
    return [
      _no_weights(leaf) or each or _no_matrix(path, leaf, depths.get(path, 0))
      for path, leaf, each in zip(paths, leaves, why)
    ]
  out = []
  for path, leaf in zip(paths, leaves):
    role = roles[path]
    why_not = None if role.kind == 'kernel' else f'{role.kind}: {role.why}'
    out.append(_no_weights(leaf) or why_not)
  return out


def state_by_name(params: Params) -> list[str | None]:
  """Why leaves are state, by collection, type or name; ``None`` for all others.

  Args:
    params: tree of arrays.

  Returns:
    A phrase or ``None`` for each leaf, in tree order.

  Examples:
    >>> state_by_name({'params': {'scale': 1.0}, 'batch_stats': {'mean': 0.0}})
    ['in the collection batch_stats', None]
  """
  paths, leaves, _ = flatten(params)
  named = [why if why and why.startswith(_STATE) else None for why in _by_names(paths, leaves)]
  return [kind or name for kind, name in zip(_state_by_type(params), named, strict=True)]


def _by_names(paths: list[str], leaves: list[Any]) -> list[str | None]:
  """What names say of leaves, by which the default leaves them out."""
  shapes = [tuple(leaf.shape) if is_array(leaf) else None for leaf in leaves]
  return _names.reasons(paths, shapes)


def _no_weights(leaf: Any) -> str | None:
  if not is_array(leaf):
    return 'not an array'
  if not is_inexact(leaf):
    return 'not floating'
  return None if size(leaf) else 'no weights'


def _no_matrix(path: str, leaf: Any, depth: int) -> str | None:
  """Why a leaf can be no kernel, unless its name says that it is one; ``depth`` axes are layers."""
  if len(leaf.shape) < 2:
    return 'fewer than two dimensions'
  if _names.is_kernel(path):  # perhaps of one input or output
    return None
  long = sum(n > 1 for n in leaf.shape)
  if long < 2:
    return f'{["no", "one"][long]} axis longer than 1'
  if sum(n > 1 for n in leaf.shape[depth:]) < 2:
    return 'one axis longer than 1 in each layer of its stack'
  return None


def _state_by_type(params: Params) -> list[str | None]:
  """Leaves in NNX variables other than params, and in Equinox's state, which have no names."""
  out = []
  for node in jax.tree.leaves(params, is_leaf=lambda node: bool(_state_type(node))):
    name = _state_type(node)
    out += [f'in a {name}'] * len(jax.tree.leaves(node)) if name else [None]
  return out


def _state_type(node: Any) -> str | None:
  """The library's name of a type that holds state; the libraries themselves aren't imported."""
  for kind in type(node).__mro__:
    if kind.__module__.startswith('flax.nnx') and kind.__name__ in _NNX_STATE:
      return f'nnx.{kind.__name__}'
    if kind.__module__.startswith('equinox.nn') and kind.__name__ == 'State':
      return 'equinox.nn.State'
  return None


_NNX_STATE = ('BatchStat', 'Cache', 'Intermediate', 'Perturbation', 'RngState', 'OptState')


def default_where(path: str, leaf: Any) -> bool:
  """What ``where=None`` says of a leaf that stands alone: :func:`skipped` of it.

  Args:
    path: name of the leaf.
    leaf: anything.

  Returns:
    Whether the leaf is selected.

  Examples:
    >>> default_where('kernel', jnp.ones((2, 3))), default_where('bias', jnp.ones((2, 3)))
    (True, False)
  """
  return skipped({path: leaf}) == [None]


def selected(
  function: str, params: Params, where: Where = None, roles: Mapping[str, Any] | None = None
) -> list[bool]:
  """Which leaves ``where`` selects, in tree order.

  Predicates, trees of bools, :class:`~jprune.graph.Roles` (their kernels) and, in a list, the exact
  paths of leaves choose exactly. Regular
  expressions narrow the default: of what they find, they take what :func:`skipped` has no reason
  to leave out.

  Args:
    function: who asks, for the message.
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
    >>> selected('prune', params), selected('prune', params, ['Dense_0/bias'])
    ([False, True], [True, False])
  """
  paths, leaves, _ = flatten(params)
  if not leaves:
    raise _checks.empty_tree(function)
  if isinstance(where, _roles.Roles):
    where, roles = None, where
  if roles is not None:
    _roles.check(function, shapes(params), roles)
  if _is_bool_tree(where):
    chosen = [bool(value) for value in along(function, 'where', params, where)]
  else:
    chosen = _filtered(function, where, paths, leaves, skipped(params, roles))
  if not any(size(leaf) for leaf, yes in zip(leaves, chosen) if yes and is_array(leaf)):
    raise _errors.nothing_selected(function, where, paths)
  for path, leaf, yes in zip(paths, leaves, chosen):
    if yes and not is_inexact(leaf):
      raise _checks.not_floating(function, 'where', path, leaf)
  return chosen


def matching(function: str, argument: str, params: Params, chosen: Where) -> list[bool]:
  """Which leaves a filter names, whatever they are, in tree order.

  Args:
    function: who asks, for the message.
    argument: what the filter is called there.
    params: tree of arrays.
    chosen: any kind of :data:`jprune.typing.Where` but ``None``; a regular expression is searched
      for in the paths of all leaves.

  Returns:
    A Python bool for each leaf.

  Raises:
    ValueError: if nothing is named, by an entry of a list neither; if a regular expression is
      malformed.
    TypeError: if the filter is of no known kind.

  Examples:
    >>> params = {'Dense_0': {'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(3)}}
    >>> matching('channels', 'keep', params, 'Dense')
    [True, True]
  """
  paths, leaves, _ = flatten(params)
  if _is_bool_tree(chosen):
    named = [bool(value) for value in along(function, argument, params, chosen)]
  elif isinstance(chosen, (list, tuple)) and chosen:
    exact = lambda entry: [path == entry for path in paths]
    each = [
      exact(entry) if entry in paths else matching(function, argument, params, entry)
      for entry in chosen
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
  function: str, where: Where, paths: list[str], leaves: list[Any], why: list[str | None]
) -> list[bool]:
  """Which leaves any filter but a tree of bools selects."""
  if isinstance(where, (list, tuple)) and where:
    chosen = [False] * len(paths)
    for each in where:
      if isinstance(each, str) and each in paths:
        more = [path == each for path in paths]
      else:
        more = _filtered(function, each, paths, leaves, why)
      if not any(more):
        raise _errors.nothing_selected(function, each, paths)
      chosen = [one or other for one, other in zip(chosen, more)]
    return chosen
  if where is None or isinstance(where, (str, re.Pattern)):
    found = [True] * len(paths) if where is None else _searched(function, where, paths)
    _refuse_quantised(function, paths, leaves, found)
    chosen = [yes and each is None for yes, each in zip(found, why)]
    if where is not None and any(found) and not any(chosen):
      raise _only_left_out(function, where, paths, leaves, found, why)
    return chosen
  if callable(where):
    answers = [(where(path, leaf), path) for path, leaf in zip(paths, leaves)]
    return [_checks.as_bool(function, answer, path) for answer, path in answers]
  raise _errors.bad_where(function, where)


def _searched(
  function: str, where: str | re.Pattern[str], paths: list[str], argument: str = 'where'
) -> list[bool]:
  try:
    pattern = re.compile(where)
  except re.error as error:
    raise _errors.bad_regex(function, where, error, argument) from None
  return [pattern.search(path) is not None for path in paths]


def _only_left_out(
  function: str,
  where: Any,
  paths: list[str],
  leaves: list[Any],
  found: list[bool],
  why: list[str | None],
) -> Exception:
  """The error for a pattern that finds only what the default leaves out."""
  there = [i for i, yes in enumerate(found) if yes]
  if not any(is_array(leaves[i]) and size(leaves[i]) for i in there):
    return _errors.nothing_selected(function, where, paths)
  floating = [i for i in there if is_inexact(leaves[i])]
  if not floating:
    return _checks.not_floating(function, 'where', paths[there[0]], leaves[there[0]])
  return _errors.only_left_out(function, where, [(paths[i], why[i]) for i in floating])


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
