"""Why the default of ``where`` skips a leaf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from jprune._roles import Role
from jprune.tree import _names
from jprune.tree._named_roles import stack_depths
from jprune.tree._paths import flatten, is_array, is_inexact, size
from jprune.typing import Params

_STATE = ('in the collection', 'running statistics', 'state by')  # how reasons of state begin


def skipped(params: Params, roles: Mapping[str, Role] | None = None) -> list[str | None]:
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
