"""Trees of params, and the filters that select their leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jprune._checks.foreign import containers, is_state, of_optimizer
from jprune._checks.results import holds_masks
from jprune._checks.words import differing, kind, message, shown

# of a whole model, whose optimizer trained a part: statistics are none of its params
_ZEROS = 'or, where pruned weights are 0.0, masks of all: jprune.masks.from_zeros(params)'
_OF_THESE = 'where pruned weights are 0.0, pass jprune.masks.from_zeros(params).'
_ALONG = ' Masks along it: jprune.transforms.masks_of(state, params).'


def empty_tree(function: str, argument: str = 'params') -> ValueError:
  return ValueError(
    message(
      function,
      argument,
      'a tree with at least one leaf',
      'an empty tree',
      "Pass the model's parameters.",
    )
  )


def other_structure(
  function: str,
  argument: str,
  expected: Sequence[str],
  found: Sequence[str],
  reference: str = 'params',
  trees: tuple[Any, Any] | None = None,
  held: bool = False,
) -> ValueError:
  """``argument`` hasn't the structure of ``reference``: says which paths or containers differ.

  Args:
    function: who asks.
    argument: the tree that is wrong.
    expected: paths of the leaves of ``reference``.
    found: those of ``argument``.
    reference: the tree that is right.
    trees: ``reference`` and ``argument``, to look at their containers.
    held: whether these are masks that the state of an optimizer holds.
  """
  constraint = f'a tree with the structure of `{reference}`'
  fix = f'Build it with jax.tree.map over the {reference}; None leaves are allowed.'
  got = differing(expected, found)
  params, other = trees or (None, None)
  if argument == 'masks' and holds_masks(other):
    got = 'the state of an optimizer'
    fix = 'Take them out of it: jprune.transforms.masks_of(state, params).'
  elif not got:
    got = 'the same leaf paths in other containers'
    if differ := containers(params, other):
      got += f': {differ[1]} for {differ[0]}'
    if of_optimizer(other):
      fix = 'They are in variables of an optimizer: jprune.transforms.masks_of(state, params).'
    elif is_state(other) and not is_state(params):
      fix = f'Convert it: nnx.to_pure_dict({argument}).'
    elif list(expected) == list(found):
      fix = (
        f'Convert it: jax.tree.structure({reference}).unflatten(jax.tree.leaves({argument}, '
        'is_leaf=lambda leaf: leaf is None)).'
      )
  elif is_state(other) and set(expected) < set(found):
    fix = (
      f'They are of more variables than that: nnx.Optimizer(..., wrt=nnx.Param) takes '
      f'nnx.filter_state({argument}, nnx.Param).'
    )
  elif argument == 'masks' and is_state(params) and set(expected) < set(found):
    fix = f'They are of more variables than that, and not in an nnx.State: {_OF_THESE}'
  elif list(found) == [f'params/{path}' for path in expected]:
    fix = f"It is of all variables: pass {argument}['params']."
  elif {f'params/{path}' for path in found} <= set(expected):
    fix = f"The {reference} are all variables: make it of these, or pass {reference}['params']."
    if held:
      fix = f"The {reference} are all variables: pass {reference}['params'], {_ZEROS}."
  elif (held or argument == 'masks') and is_state(params) and set(found) < set(expected):
    along = '' if held or not of_optimizer(other) else _ALONG
    more = ' A file of the first has no statistics.' if function == 'save' else ''
    fix = (
      f'The {reference} are of more variables: pass nnx.filter_state({reference}, nnx.Param), '
      f'{_ZEROS}.{more}{along}'
    )
  elif held and set(found) < set(expected):
    fix = f'The {reference} have leaves that it has no masks for: pass those it trains, {_ZEROS}.'
  return ValueError(message(function, argument, constraint, got, fix))


def not_floating(function: str, argument: str, path: str, leaf: Any) -> TypeError:
  constraint = (
    'floating where it is pruned'
    if not argument.startswith('where')
    else 'a filter of floating leaves'
  )
  return TypeError(
    message(
      function,
      argument.split('[')[0],
      constraint,
      kind(leaf),
      'Exclude the leaf with where=.',
      path,
    )
  )


def as_bool(function: str, answer: Any, path: str, argument: str = 'where') -> bool:
  """The answer of a user's predicate, refused unless it is a bool."""
  if isinstance(answer, (bool, np.bool_)):
    return bool(answer)
  fix = 'Return True to select the leaf.'
  raise TypeError(
    message(function, argument, 'a predicate that returns a bool', shown(answer), fix, path)
  )
