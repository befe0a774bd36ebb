"""A function and its params to frames, coupled and checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune.graph._atoms import Cause, Dims, freeze, fresh_all, leaves, unify
from jprune.graph._couple import Coupling
from jprune.graph._exact import Exactness
from jprune.graph._frame import Frame, without_dead
from jprune.graph._rule import ANY, UNIFORM, ZERO, Status
from jprune.typing import Params


class Traced:
  """A function, traced at full shapes, with the axes of all its values coupled.

  Attributes:
    paths: of the leaves of the params, in tree order.
    leaves: their shapes and dtypes.
    treedef: structure of the params.
    dims: dimensions of the leaves.
    frame: of the function.
    out_tree: structure of what it returns.
    states: for each result, the place of the param whose new value it is, or ``None``.
    unknown: primitives that no rule covers, and how often they occur.
  """

  def __init__(self, function: str, fn: Callable[..., Any], params: Params, args: Any) -> None:
    self.paths, values, self.treedef = tree.flatten(params)
    if not self.paths:
      raise _checks.empty_tree(function)
    for path, value in zip(self.paths, values):
      if not tree.is_array(value) and not isinstance(value, (bool, int, float, complex)):
        raise _checks.not_an_array(function, path, value)
    self.leaves = [jax.ShapeDtypeStruct(np.shape(x), _dtype(x)) for x in values]
    jaxpr, out_shape = _make_jaxpr(function, fn, params, args)
    out_paths, outs, self.out_tree = tree.flatten(out_shape)
    self.states = _states(self.paths, self.leaves, out_paths, outs)
    self.frame = Frame(without_dead(jaxpr.jaxpr), jaxpr.consts)
    self.dims: list[Dims] = [fresh_all(leaf.shape) for leaf in self.leaves]
    self._couple(out_paths, tree.flatten(args)[0])
    self._check()

  def _couple(self, out_paths: list[str], arg_paths: list[str]) -> None:
    variables = self.frame.jaxpr.invars[len(self.dims) :]
    inputs = [
      fresh_all(var.aval.shape, Cause(f'model input {path}'))
      for var, path in zip(variables, arg_paths)
    ]
    coupling = Coupling()
    outs = coupling.couple(self.frame, [*self.dims, *inputs])
    self.unknown = coupling.unknown
    for path, dims, state in zip(out_paths, outs, self.states):
      cause = Cause(f'model output {path}'.rstrip())
      for axis, dim in enumerate(dims):
        if state is None:
          freeze(dim, cause)
        else:
          unify(self.dims[state][axis], dim, Cause(f'new value of {path}'))
    used = {var for eqn in self.frame.jaxpr.eqns for var in _variables(eqn)}
    used |= set(_hashable(self.frame.jaxpr.outvars))
    for var, dims in zip(self.frame.jaxpr.invars, self.dims):
      for dim in dims if var not in used else ():
        freeze(dim, Cause('fn does not use it'))

  def _check(self) -> None:
    prunable = {a for dims in self.dims for dim in dims for a in leaves(dim) if a.frozen is None}
    exactness = Exactness(prunable)
    live = lambda dims: [atom for dim in dims for atom in exactness.atoms_of(dim)]
    ins = [Status(UNIFORM, dict.fromkeys(live(dims), ZERO)) for dims in self.dims]
    rest = self.frame.jaxpr.invars[len(ins) :]
    ins += [Status(UNIFORM, dict.fromkeys(live(self.frame.dims[v]), ANY)) for v in rest]
    exactness.run(self.frame, ins)


def _variables(eqn: Any) -> list[Any]:
  return _hashable(eqn.invars)


def _hashable(variables: Any) -> list[Any]:
  return [var for var in variables if not isinstance(var, jax.extend.core.Literal)]


def _make_jaxpr(function: str, fn: Any, params: Params, args: Any) -> tuple[Any, Any]:
  if not callable(fn):
    raise _checks.not_a_function(function, fn)
  try:
    return jax.make_jaxpr(fn, return_shape=True)(params, *args)
  except Exception as error:
    raise _checks.not_traceable(function, error) from error


def _states(
  paths: list[str], shapes: list[Any], out_paths: list[str], outs: list[Any]
) -> list[int | None]:
  """Which results are new values of params: those of their shape and, after some keys, path."""
  places = {path: i for i, path in enumerate(paths) if path and shapes[i].shape}
  found: list[int | None] = []
  for path, out in zip(out_paths, outs):
    keys = path.split('/')
    ends = ['/'.join(keys[i:]) for i in range(len(keys))]
    same = [places[end] for end in ends if end in places and shapes[places[end]].shape == out.shape]
    found.append(same[0] if same else None)
  return found


def _dtype(leaf: Any) -> Any:
  return leaf.dtype if hasattr(leaf, 'dtype') else jnp.result_type(leaf)
