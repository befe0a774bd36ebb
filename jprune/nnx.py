"""NNX modules to a pure function and its params, and back.

What takes a function of the params (``jax.grad``, a loss, anything that traces a function) takes
linen's ``model.apply`` and its variables as they are. An NNX module holds its arrays itself;
:func:`functional` takes them out, :func:`merge` puts them back, :func:`shrunk` makes a module of
those that a smaller function takes. Only this module imports flax.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from jprune import _checks, tree
from jprune._entry import public
from jprune._modules import Module, Rest, arrays_and_rest
from jprune._shrink import Plan, Shrunk
from jprune._shrink.plan import as_bools
from jprune.graph._shrunk.program import Program
from jprune.typing import Params

__all__ = [
  'functional',
  'merge',
  'shrunk',
]


def __dir__() -> list[str]:
  return [*__all__, *(name for name in globals() if name.startswith('__'))]


# What a call leaves behind, and what it draws from: no part of what the model has learnt.
_TRANSIENT = nnx.Any(nnx.RngState, nnx.Cache, nnx.Intermediate, nnx.Perturbation)
# The attribute of a smaller module that says what it lacks.
_PLAN = '_jprune_plan'


def functional(
  model: nnx.Module, wrt: Any = None, method: str | None = None
) -> tuple[Callable[..., Any], Params]:
  """A module as a pure function and the params that it takes.

  ``fn`` works under ``jit``, ``grad`` and ``vmap``. It sees the module as it is now: call
  ``model.eval()`` or ``model.train()`` first. What a call changes in the module (running
  statistics, the counts of random streams, caches) is dropped, so every call draws the same
  random numbers; pass ``rngs`` to the call where the module takes it. In training mode, which
  modules start in, a BatchNorm doesn't use its statistics: :func:`jprune.graph.channels` then finds
  no channels in them.

  Args:
    model: an NNX module; stays as it is.
    wrt: an NNX filter that says which variables are params, for example ``nnx.Param`` to take
      gradients of these alone. By default all but random keys and counts, caches and
      intermediates; the statistics of a BatchNorm are params too. The others are held by ``fn``.
    method: name of the method that ``fn`` calls; by default the module itself is called.

  Returns:
    ``(fn, params)``: ``fn(params, *args, **kwargs)`` is ``model(*args, **kwargs)``. ``params`` is
    an ``nnx.State`` that shares no variable with the model; ``fn`` takes any tree with the same
    leaf paths, such as :func:`jprune.load` returns.

  Raises:
    TypeError: if ``model`` is no NNX module.
    ValueError: if there is no such variable or method; by ``fn``, if the leaf paths differ.

  Examples:
    >>> from flax import nnx
    >>> model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.relu)
    >>> fn, params = functional(model)
    >>> x = jnp.ones((1, 2))
    >>> bool((jax.jit(fn)(params, x) == model(x)).all())
    True
    >>> jprune.tree.flatten(params)[0]
    ['layers/0/bias', 'layers/0/kernel']
    >>> grads = jax.grad(lambda params: fn(params, x).sum())(params)
  """
  if not isinstance(model, nnx.Module):
    raise _checks.not_nnx_module('functional', model)
  if method is not None and not callable(getattr(model, method, None)):
    raise _checks.no_method('functional', method, type(model).__name__)
  chosen = nnx.Not(_TRANSIENT) if wrt is None else wrt
  graphdef, params, others = nnx.split(model, chosen, ...)
  paths, leaves, treedef = tree.flatten(params)
  if not leaves:
    raise _checks.no_variables('functional', wrt, tree.flatten(nnx.state(model))[0])
  other_leaves, other_treedef = tree.flatten(others)[1:]

  def fn(params: Params, *args: Any, **kwargs: Any) -> Any:
    found = _by_path(params)
    if found.keys() != set(paths):
      raise _checks.other_variables('functional', paths, list(found))
    # Unflattening makes new variables: what the call does to them reaches neither the caller's
    # params nor, from inside of a trace, variables that were made outside of it.
    state = treedef.unflatten([found[path] for path in paths])
    copy = nnx.merge(graphdef, state, other_treedef.unflatten(other_leaves))
    return getattr(copy, method or '__call__')(*args, **kwargs)

  return fn, treedef.unflatten(leaves)


@public
def merge(model: Module, params: Params) -> Module:
  """A module like ``model`` with other params.

  To change the model in place, use ``flax.nnx.update(model, params)``. The params of a smaller
  function fit neither: :func:`shrunk` makes a module of them.

  Args:
    model: an NNX module; stays as it is, and shares no variable with the result.
    params: tree whose leaf paths are among the model's, of the same shapes. Variables that it
      doesn't have keep the model's values.

  Returns:
    A new module of the same type.

  Raises:
    TypeError: if ``model`` is no NNX module.
    ValueError: if the model has no leaf of that path, or one of another shape.

  Examples:
    >>> from flax import nnx
    >>> model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.relu)
    >>> fn, params = functional(model)
    >>> pruned = merge(model, jprune.apply(params, jprune.prune(params, 0.5)))
    >>> [int((each.layers[0].kernel[...] == 0).sum()) for each in (model, pruned)]
    [0, 3]
  """
  if not isinstance(model, nnx.Module):
    raise _checks.not_nnx_module('merge', model)
  graphdef, state = nnx.split(model)
  paths, leaves, treedef = tree.flatten(state)
  found = _by_path(params)
  if not found:
    raise _checks.empty_tree('merge')
  unknown = [path for path in found if path not in set(paths)]
  if unknown:
    raise _checks.unknown_variables('merge', unknown, paths)
  for path, leaf in zip(paths, leaves):
    if path in found and np.shape(found[path]) != leaf.shape:
      raise _checks.other_variable_shape('merge', path, found[path], leaf.shape)
  return nnx.merge(graphdef, treedef.unflatten([found.get(p, x) for p, x in zip(paths, leaves)]))


def _by_path(params: Params) -> dict[str, Any]:
  paths, leaves, _ = tree.flatten(params)
  return dict(zip(paths, leaves))


# ------------------------------------------------------------------------------ small modules


@public
def shrunk(model: Module, small: Shrunk) -> Module:
  """A module that holds small params, and computes what the smaller function does.

  What is left of a channel in the smaller function, a LayerNorm's pruned entries for one, is not in
  the params, so no module of the model's own class computes it. This one's class derives from it:
  variables have the paths and types that they have there, and are small. Its methods are those of
  the model, run as :func:`jprune.shrink` runs a function: on values that stay. So it is a module
  like any other, for ``nnx.Optimizer``, ``nnx.jit``, ``nnx.split`` and checkpoints; ``train()`` and
  ``eval()`` switch its mode, running statistics and random streams are updated by its calls.
  Submodules can't be called by themselves.

  Args:
    model: the module that was shrunk; stays as it is. Variables that are no params, such as random
      streams, are copied.
    small: what :func:`jprune.shrink` returned for the function of :func:`functional`.

  Returns:
    A module.

  Raises:
    TypeError: if ``model`` is no NNX module, or ``small`` not what :func:`jprune.shrink` returns.
    ValueError: if the plan is not one of all of the model's variables; by a method, if the pruned
      channels can't be left out of it.

  Examples:
    >>> from flax import nnx
    >>> rngs = nnx.Rngs(0)
    >>> model = nnx.Sequential(nnx.Linear(2, 8, rngs=rngs), nnx.relu, nnx.Linear(8, 3, rngs=rngs))
    >>> fn, params = functional(model)
    >>> x = jnp.ones((1, 2))
    >>> graph = jprune.graph.channels(fn, params, x)
    >>> masks = jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5)
    >>> small = jprune.shrink(fn, params, masks, x)
    >>> module = shrunk(model, small)
    >>> module.layers[0].kernel.shape, module(x).shape
    ((2, 4), (1, 3))
    >>> optimizer = nnx.Optimizer(module, optax.adam(1e-3), wrt=nnx.Param)
  """
  if not isinstance(model, nnx.Module):
    raise _checks.not_nnx_module('shrunk', model)
  if not isinstance(small, Shrunk):
    raise _checks.not_shrunk('shrunk', small)
  model = nnx.clone(model)
  graphdef, state, others = nnx.split(model, nnx.Not(_TRANSIENT), ...)
  paths, leaves, treedef = tree.flatten(state)
  found, full = _by_path(small.params), dict(small.plan.shapes)
  if {path: leaf.shape for path, leaf in zip(paths, leaves)} != full:
    raise _checks.other_plan('shrunk', paths, list(full))
  module = nnx.merge(graphdef, treedef.unflatten([found[path] for path in paths]), others)
  module.__class__ = _small_class(type(model))
  setattr(module, _PLAN, small.plan)
  return module


@functools.cache
def _small_class(base: type) -> type:
  """A class whose methods run those of another one on what stays."""
  methods = {
    name: _small_method(base, name)
    for kind in reversed(base.__mro__[: base.__mro__.index(nnx.Module)])
    for name, value in vars(kind).items()
    if inspect.isfunction(value) and (name == '__call__' or not name.startswith('_'))
  }
  name = f'Small{base.__name__}'
  return type(name, (base,), {**methods, '__module__': base.__module__, '__qualname__': name})


def _small_method(base: type, name: str) -> Callable[..., Any]:
  @functools.wraps(getattr(base, name))
  def method(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
    graphdef, params, others = nnx.split(self, nnx.Not(_TRANSIENT), ...)
    arrays, rest = arrays_and_rest((args, kwargs))
    plan, structure = getattr(self, _PLAN), jax.tree.structure(params)
    program = _small_program(base, name, graphdef, plan, structure, rest)
    out, changed = program(params, others, arrays)
    if changed:
      _update(self, changed)
    return out

  return method


@functools.lru_cache(maxsize=256)
def _small_program(
  base: type, name: str, graphdef: Any, plan: Plan, treedef: Any, rest: Rest
) -> Program:
  """A method of a module that holds full params, less what the plan leaves out."""

  def run(params: Params, others: Any, arrays: list[Any]) -> tuple[Any, dict[str, Any]]:
    copy = nnx.merge(graphdef, params, others)
    copy.__class__ = base  # whose methods call those of full modules
    before = _by_path(nnx.state(copy))
    args, kwargs = rest.merged(arrays)
    out = getattr(copy, name)(*args, **kwargs)
    after = _by_path(nnx.state(copy, nnx.Not(nnx.Param)))
    return out, {path: leaf for path, leaf in after.items() if leaf is not before.get(path)}

  run.__name__ = f'{base.__name__}.{name}'
  paths = tree.flatten(treedef.unflatten(range(treedef.num_leaves)))[0]
  return Program(run, {path: plan.shapes[path] for path in paths}, treedef, as_bools(plan))


def _update(module: nnx.Module, changed: dict[str, Any]) -> None:
  """Gives variables the values that a call has left in them."""
  state = nnx.state(module, lambda path, _: '/'.join(map(str, path)) in changed)
  paths, _, treedef = tree.flatten(state)
  nnx.update(module, treedef.unflatten([changed[path] for path in paths]))
