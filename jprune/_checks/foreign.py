"""What other libraries have in place of a function or of params, and what to pass instead.

Types are told by the names of their classes and of the packages that these are from: none of the
libraries is imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from jprune._checks.words import message


class Foreign(NamedTuple):
  """What is to be said of objects of a type.

  Attributes:
    package: that its class is from, by its first words.
    names: of its classes.
    called: what a message calls it.
    as_params: what to pass as params.
    as_function: what to pass as a function of the params.
    is_tree: whether it may be what ``params`` asks for all the same.
  """

  package: str
  names: tuple[str, ...]
  called: str
  as_params: str
  as_function: str
  is_tree: bool = False


_NNX = 'fn, params = jprune.nnx.functional(model)'
_EQUINOX = (
  'fn, params = jprune.equinox.functional(model), or '
  'params, rest = equinox.partition(model, equinox.is_inexact_array)'
)
_FOREIGN = (
  Foreign(
    'flax.linen',
    ('Module',),
    'a linen module',
    "Pass what it is initialised with: model.init(key, x)['params'].",
    "Pass model.apply, whose params are all variables, or lambda params, x: model.apply({'params': "
    'params}, x).',
  ),
  Foreign('flax.nnx', ('Optimizer',), 'an NNX optimizer', f'Of its model: {_NNX}.', f'{_NNX}.'),
  Foreign('flax.nnx', ('Module',), 'an NNX module', f'Take it apart: {_NNX}.', f'Write {_NNX}.'),
  Foreign(
    'equinox', ('Module',), 'an Equinox module', f'Take it apart: {_EQUINOX}.',
    f'Write {_EQUINOX}.', is_tree=True,
  ),
  Foreign(
    'flax.training.train_state', ('TrainState',), 'a TrainState', 'Pass state.params.',
    'Pass state.apply_fn.',
  ),
  Foreign(
    'torch.nn', ('Module',), 'a PyTorch module',
    'Make arrays of its weights: {name: jnp.asarray(w.numpy()) for name, w in '
    'model.state_dict().items()}.',
    'Write the model in JAX: its function is traced.',
  ),
  Foreign(
    'haiku', ('Transformed', 'TransformedWithState', 'MultiTransformed'), 'a Haiku transformed',
    'Pass what it is initialised with: transformed.init(key, x).',
    'Pass haiku.without_apply_rng(transformed).apply.',
  ),
)  # fmt: skip


def foreign(value: Any) -> Foreign | None:
  """What is known of an object, or of a class, of another library."""
  for kind in (value if isinstance(value, type) else type(value)).__mro__:
    for each in _FOREIGN:
      if kind.__name__ in each.names and f'{kind.__module__}.'.startswith(f'{each.package}.'):
        return each
  return None


def check_tree(function: str, argument: str, given: Any) -> None:
  """Refuses what holds params in place of them: a module, a training state, the path of a file."""
  if isinstance(given, (str, os.PathLike)):
    fix = 'Open it: jprune.io.open(path), or jprune.load(path).'
    raise TypeError(message(function, argument, 'a tree of arrays', f'{os.fspath(given)!r}', fix))
  found = None if type(given) in (dict, list, tuple) else foreign(given)
  if found is None or (found.is_tree and not isinstance(given, type)):
    return
  raise TypeError(
    message(function, argument, 'a tree of arrays', _shown(found, given), found.as_params)
  )


def not_an_array(function: str, path: str, leaf: Any, params: Any) -> TypeError:
  """A leaf that can't be traced; of an Equinox module, with what takes such leaves out."""
  found = foreign(params)
  if found is None or not found.is_tree:
    fix = 'Close over what is no array.'
    return TypeError(message(function, 'params', 'arrays', type(leaf).__name__, fix, path))
  got = f'{_shown(found, params)}, with {type(leaf).__name__}'
  return TypeError(message(function, 'params', 'arrays', got, found.as_params, path))


def misunderstood(
  function: str, argument: str, fn: Any, params: Any, error: Exception
) -> TypeError | None:
  """Why a call of a user's function failed, if it is one of a few well-known mistakes.

  Looked for afterwards: a module may be a function of other params than its own, and what a
  function does with the params isn't known before it is called.
  """
  own = f'{function}: `'  # of this library, of something else than the function
  if str(error).startswith(own) and not str(error).startswith(f'{own}{argument}`'):
    return None
  if (of_module := module_for_function(function, argument, fn)) is not None:
    return of_module
  if not _refused_by_flax(error):
    return None
  model = getattr(fn, 'func', fn)
  collections = isinstance(params, Mapping) and 'params' in params
  if collections:
    constraint = f'what `{argument}` takes'
    fix = f"Pass variables['params'], or let `{argument}` call model.apply(params, ...)."
    got = "all variables, {'params': ...}, which it puts into {'params': ...} once more"
    return TypeError(message(function, 'params', constraint, got, fix))
  found = foreign(getattr(model, '__self__', None))
  if found is None or found.package != 'flax.linen':
    return None
  constraint = f'all variables of the model, as `{argument}` takes them'
  fix = "Pass {'params': params}, or lambda params, x: model.apply({'params': params}, x)."
  return TypeError(message(function, 'params', constraint, "params without 'params'", fix))


def module_for_function(function: str, argument: str, fn: Any) -> TypeError | None:
  """Why a call of a user's function failed, if that is a module with params of its own."""
  if (found := foreign(fn)) is None or (found.is_tree and _holds_no_arrays(fn)):
    return None
  constraint = 'a function of the params and further arguments'
  fix = found.as_function
  if argument != 'fn':
    fix = f'Write a function around it. {fix}'
  return TypeError(message(function, argument, constraint, _shown(found, fn), fix))


def _holds_no_arrays(module: Any) -> bool:
  """Whether a module has no params of its own: it may well be a function of others."""
  return not any(hasattr(leaf, 'shape') for leaf in jax.tree.leaves(module))


def _refused_by_flax(error: BaseException | None) -> bool:
  """Whether linen could make nothing of the variables that ``apply`` was called with."""
  for _ in range(3):
    if error is None:
      return False
    name = type(error).__name__
    if type(error).__module__ == 'flax.errors' and name.startswith(('ApplyScope', 'Scope')):
      return True
    error = error.__cause__
  return False


def _shown(found: Foreign, value: Any) -> str:
  """What an object is, and its class."""
  name = f'the class {value.__name__}' if isinstance(value, type) else type(value).__name__
  return found.called if name in found.called else f'{found.called}, {name}'


def is_state(value: Any) -> bool:
  """Whether this is an ``nnx.State``."""
  kinds = type(value).__mro__
  return any(k.__name__ == 'State' and k.__module__.startswith('flax.nnx') for k in kinds)


def of_optimizer(value: Any) -> bool:
  """Whether a tree has the variables in which an NNX optimizer keeps what is along the params."""
  optimizers = lambda node: type(node).__name__ == 'OptVariable'
  return any(map(optimizers, jax.tree.leaves(value, is_leaf=optimizers)))


def containers(params: Any, other: Any) -> tuple[str, str] | None:
  """The names of the first two containers that differ on the way to the same leaf."""
  (one, mine), (two, theirs) = _children(params), _children(other)
  if one != two:
    return one, two
  for here, there in zip(mine, theirs):
    if not jax.tree_util.all_leaves([here]) and (found := containers(here, there)):
      return found
  return None


def _children(node: Any) -> tuple[str, list[Any]]:
  name = 'nnx.State' if is_state(node) else type(node).__name__
  return name, jax.tree.leaves(node, is_leaf=lambda child: child is not node)
