"""Equinox modules to a pure function and its params, and back.

An Equinox module is a tree of arrays and all else: :func:`functional` takes the arrays out, and
:func:`shrunk` makes a module of those that a smaller function takes. Only this module imports
Equinox.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jprune import _checks, tree

try:
  import equinox as eqx
except ImportError:
  raise _checks.missing_library('jprune.equinox', 'equinox', 'equinox') from None

from jprune._entry import public
from jprune._modules import Rest, arrays_and_rest
from jprune._shrink import Plan, Shrunk
from jprune._shrink.plan import as_bools
from jprune.graph._shrunk.program import Program
from jprune.typing import Params

__all__ = [
  'SmallModule',
  'functional',
  'shrunk',
]


def __dir__() -> list[str]:
  return [*__all__, *(name for name in globals() if name.startswith('__'))]


def functional(model: eqx.Module, method: str | None = None) -> tuple[Callable[..., Any], Params]:
  """A module as a pure function and the params that it takes.

  Args:
    model: an Equinox module.
    method: name of the method that ``fn`` calls; by default the module itself is called.

  Returns:
    ``(fn, params)``: ``fn(params, *args, **kwargs)`` is ``model(*args, **kwargs)``, for one sample
    if the model is: ``jax.vmap(fn, (None, 0))`` takes a batch. ``params`` are the floating arrays
    of the model, in a module of its type; all else is held by ``fn``. Put them back by
    ``equinox.combine(params, model)``.

  Raises:
    TypeError: if ``model`` is no Equinox module.
    ValueError: if it has no floating array, or no such method.

  Examples:
    >>> import equinox as eqx
    >>> model = eqx.nn.MLP(2, 3, 8, depth=1, key=jax.random.key(0))
    >>> fn, params = functional(model)
    >>> x = jnp.ones(2)
    >>> bool((fn(params, x) == model(x)).all())
    True
    >>> jprune.tree.flatten(params)[0][:2]
    ['layers/0/weight', 'layers/0/bias']
  """
  if not isinstance(model, eqx.Module):
    raise _checks.not_equinox_module('functional', model)
  if method is not None and not callable(getattr(model, method, None)):
    raise _checks.no_method('functional', method, type(model).__name__)
  params, rest = eqx.partition(model, eqx.is_inexact_array)
  if not tree.flatten(params)[0]:
    raise _checks.no_variables('functional', None, [])

  def fn(params: Params, *args: Any, **kwargs: Any) -> Any:
    return getattr(eqx.combine(params, rest), method or '__call__')(*args, **kwargs)

  return fn, params


class SmallModule(eqx.Module):
  """A module that holds small params; :func:`shrunk` makes it.

  Attributes:
    model: what the model holds, with small params; it can't be called by itself.
    plan: which indices stay.
    method: name of the model's method that is called.

  Examples:
    See :func:`shrunk`.

    >>> import equinox as eqx
    >>> issubclass(SmallModule, eqx.Module)
    True
  """

  model: Any
  plan: Any = eqx.field(static=True)
  method: str = eqx.field(static=True)

  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    """What the model returns, less its pruned channels.

    Args:
      *args: of the model.
      **kwargs: of the model.

    Returns:
      What the model returns.
    """
    params, others = eqx.partition(self.model, eqx.is_inexact_array)
    arrays, rest = arrays_and_rest((others, args, kwargs))
    paths, _, treedef = tree.flatten(params)
    return _program(tuple(paths), treedef, self.plan, self.method, rest)(params, arrays)


@functools.lru_cache(maxsize=256)
def _program(paths: tuple[str, ...], treedef: Any, plan: Plan, method: str, rest: Rest) -> Program:
  def run(params: Params, arrays: list[Any]) -> Any:
    others, args, kwargs = rest.merged(arrays)
    return getattr(eqx.combine(params, others), method)(*args, **kwargs)

  return Program(run, {path: plan.shapes[path] for path in paths}, treedef, as_bools(plan))


@public
def shrunk(model: eqx.Module, small: Shrunk, method: str | None = None) -> SmallModule:
  """A module that holds small params, and computes what the smaller function does.

  What is left of a channel in the smaller function, a LayerNorm's pruned entries for one, is not in
  the params, so no module of the model's own class computes it. This one is a module like any
  other, for ``eqx.filter_jit``, ``eqx.filter_grad``, ``eqx.tree_serialise_leaves``,
  ``eqx.nn.inference_mode`` and ``jax.vmap``.

  Args:
    model: the module that was shrunk.
    small: what :func:`jprune.shrink` returned for the function of :func:`functional`, or for a
      ``jax.vmap`` of it.
    method: name of the method that the new module calls; by default the model itself is called.

  Returns:
    A module whose ``__call__`` is that of the model.

  Raises:
    TypeError: if ``model`` is no Equinox module, or ``small`` is not what :func:`jprune.shrink`
      returns.
    ValueError: if the plan is not one of the model's floating arrays, or there is no such method.

  Examples:
    >>> import equinox as eqx
    >>> model = eqx.nn.MLP(2, 3, 8, depth=1, key=jax.random.key(0))
    >>> fn, params = functional(model)
    >>> graph = jprune.graph.channels(fn, params, jnp.ones(2))
    >>> masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5)
    >>> module = shrunk(model, jprune.shrink(fn, params, masks, jnp.ones(2)))
    >>> module.model.layers[0].weight.shape, jax.vmap(module)(jnp.ones((5, 2))).shape
    ((4, 2), (5, 3))
  """
  if not isinstance(small, Shrunk):
    raise _checks.not_shrunk('shrunk', small)
  if not isinstance(model, eqx.Module):
    raise _checks.not_equinox_module('shrunk', model)
  if method is not None and not callable(getattr(model, method, None)):
    raise _checks.no_method('shrunk', method, type(model).__name__)
  params, rest = eqx.partition(model, eqx.is_inexact_array)
  paths, leaves, treedef = tree.flatten(params)
  if {path: leaf.shape for path, leaf in zip(paths, leaves)} != dict(small.plan.shapes):
    raise _checks.other_plan('shrunk', paths, list(small.plan.shapes))
  found = dict(zip(*tree.flatten(small.params)[:2]))
  params = treedef.unflatten([found[path] for path in paths])
  return SmallModule(eqx.combine(params, rest), small.plan, method or '__call__')
