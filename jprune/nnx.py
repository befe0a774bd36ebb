"""NNX modules to a pure function and its params, and back.

What takes a function of the params (``jax.grad``, a loss, anything that traces a function) takes
linen's ``model.apply`` and its variables as they are. An NNX module holds its arrays itself;
:func:`functional` takes them out, :func:`merge` puts them back. Only this module imports flax.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flax import nnx

from jprune import _checks, tree
from jprune._entry import public
from jprune.typing import Params

# What a call leaves behind, and what it draws from: no part of what the model has learnt.
_TRANSIENT = nnx.Any(nnx.RngState, nnx.Cache, nnx.Intermediate, nnx.Perturbation)


def functional(model: nnx.Module, wrt: Any = None) -> tuple[Callable[..., Any], Params]:
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

  Returns:
    ``(fn, params)``: ``fn(params, *args, **kwargs)`` is ``model(*args, **kwargs)``. ``params`` is
    an ``nnx.State`` that shares no variable with the model; ``fn`` takes any tree with the same
    leaf paths, such as :func:`jprune.load` returns.

  Raises:
    TypeError: if ``model`` is no NNX module.
    ValueError: if there is no such variable; by ``fn``, if the leaf paths differ.

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
    return nnx.merge(graphdef, state, other_treedef.unflatten(other_leaves))(*args, **kwargs)

  return fn, treedef.unflatten(leaves)


@public
def merge(model: nnx.Module, params: Params) -> nnx.Module:
  """A module like ``model`` with other params.

  To change the model in place, use ``flax.nnx.update(model, params)``.

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
    if path in found:
      _checks.check_shape('merge', 'params', path, found[path], leaf.shape)
  return nnx.merge(graphdef, treedef.unflatten([found.get(p, x) for p, x in zip(paths, leaves)]))


def _by_path(params: Params) -> dict[str, Any]:
  paths, leaves, _ = tree.flatten(params)
  return dict(zip(paths, leaves))
