"""A function and its params to frames, coupled and checked."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jprune import _checks, tree
from jprune.graph import _errors
from jprune.graph._analysis.coupling import Coupling
from jprune.graph._analysis.facts import of_param
from jprune.graph._analysis.pruned_values import Exactness
from jprune.graph._axes.atoms import Atom, Cause, Dim, Dims, freeze, fresh_all, leaves, resolve
from jprune.graph._axes.pruned import ANY, MADE, REAL, UNIFORM, ZERO, Facts, Status
from jprune.graph._axes.unify import unify
from jprune.graph._program.foreign import has_foreign, without_foreign
from jprune.graph._program.frame import Frame, without_dead
from jprune.graph._program.outputs import Filter, chosen
from jprune.graph._program.traits import Trait, has
from jprune.graph._rules.base import RULES
from jprune.typing import Params

_ARRAYS = (jax.Array, np.ndarray)


class Traced:
  """A function, traced at full shapes, with the axes of all its values coupled.

  Attributes:
    paths: of the leaves of the params, in tree order.
    leaves: their shapes and dtypes.
    arrays: the arrays themselves, as long as somebody else has them; ``None`` for other leaves.
    treedef: structure of the params.
    dims: dimensions of the leaves.
    inputs: dimensions of the arguments.
    frame: of the function.
    out_tree: structure of what it returns.
    states: for each result, the place of the param whose new value it is, or ``None``.
    unsupported: primitives that no rule covers, and how often they occur.
    foreign: whether another library's primitives stood for functions, as while it converts a model.
  """

  def __init__(
    self,
    function: str,
    fn: Callable[..., Any],
    params: Params,
    args: Any,
    exact: bool = True,
    small_outputs: Filter = None,
  ) -> None:
    """``exact`` asks what pruned entries are, without which nothing may be left out.

    ``small_outputs`` selects results whose axes aren't frozen.
    """
    self.paths, values, self.treedef = tree.flatten(params)
    if not self.paths:
      raise _checks.empty_tree(function)
    _checks.check_distinct(function, self.paths)
    for path, value in zip(self.paths, values):
      if not tree.is_array(value) and not isinstance(value, (bool, int, float, complex)):
        raise _checks.not_an_array(function, path, value, params)
    self.leaves = [jax.ShapeDtypeStruct(np.shape(x), _dtype(x)) for x in values]
    self.arrays = [weakref.ref(x) if isinstance(x, _ARRAYS) else None for x in values]
    jaxpr, out_shape = _make_jaxpr(function, fn, params, args)
    self.foreign = has_foreign(jaxpr.jaxpr, RULES)
    if self.foreign:
      jaxpr = without_foreign(jaxpr, RULES)
      # JAX would run it when nothing is converted any more; its stub leaves the method out.
      jax.jit(fn).clear_cache()  # pyright: ignore[reportAttributeAccessIssue]
    out_paths, outs, self.out_tree = tree.flatten(out_shape)
    if not outs:
      raise _errors.nothing_returned(function)
    self.states = _states(self.paths, self.leaves, out_paths, outs)
    self.frame = Frame(without_dead(jaxpr.jaxpr), jaxpr.consts)
    self.frame.params = len(self.leaves)
    small = [False] * len(outs)
    if small_outputs is not None:
      small = chosen(function, 'small_outputs', small_outputs, out_paths, outs)
    self.dims: list[Dims] = [fresh_all(leaf.shape) for leaf in self.leaves]
    self._couple(out_paths, small, tree.flatten(args)[0])
    if exact:
      self._check()

  def _couple(self, out_paths: list[str], small: list[bool], arg_paths: list[str]) -> None:
    variables = self.frame.jaxpr.invars[len(self.dims) :]
    self.inputs = inputs = [
      fresh_all(var.aval.shape, Cause(f'model input {path}'))
      for var, path in zip(variables, arg_paths)
    ]
    coupling = Coupling()
    outs = coupling.couple(self.frame, [*self.dims, *inputs])
    self.unsupported = coupling.unsupported
    taken = {a for dims in (*self.dims, *inputs) for dim in dims for a in leaves(dim)}
    for i, (path, dims) in enumerate(zip(out_paths, outs)):
      state = self.states[i]
      if state is not None and _is_new_value(self.dims[state], dims, taken):
        for old, new in zip(self.dims[state], dims):
          unify(old, new, Cause(f'new value of {self.paths[state]}'))
        continue
      self.states[i] = None
      for dim in () if small[i] else dims:
        freeze(dim, Cause(f'model output {path}'.rstrip()))
    used = {var for eqn in self.frame.jaxpr.eqns for var in _variables(eqn)}
    used |= set(_hashable(self.frame.jaxpr.outvars))
    for var, dims in zip(self.frame.jaxpr.invars, self.dims):
      for dim in dims if var not in used else ():
        freeze(dim, _UNUSED)
    cut = {a for dims in self.dims for dim in dims for a in _segments(dim) if a.frozen is None}
    for atom in cut and cut - _used(self.frame):
      freeze((atom,), _UNUSED)

  def _check(self) -> None:
    prunable = {a for dims in self.dims for dim in dims for a in leaves(dim) if a.frozen is None}
    exactness = Exactness(prunable)
    prunable = lambda dims: [atom for dim in dims for atom in exactness.atoms_of(dim)]
    ins = []
    for leaf, dims in zip(self.leaves, self.dims):
      atoms = prunable(dims)
      ins.append(Status(UNIFORM, dict.fromkeys(atoms, ZERO), of_param(leaf, atoms)))
    for var in self.frame.jaxpr.invars[len(ins) :]:
      of = dict.fromkeys(prunable(self.frame.dims[var]), ANY)
      ins.append(Status(UNIFORM, of, Facts(REAL | MADE, dict.fromkeys(of, REAL | MADE))))
    exactness.run(self.frame, ins)


_UNUSED = Cause(_errors.UNUSED)


def _segments(dim: Dim) -> Iterator[Atom]:
  """The atoms in the segments of sums."""
  for atom in resolve(dim):
    for part in atom.segments or ():
      yield from leaves(part)


def _used(frame: Frame) -> set[Atom]:
  """The atoms of the results, and of what anything is computed from."""
  read = list(_hashable(frame.jaxpr.outvars))
  for index, eqn in enumerate(frame.jaxpr.eqns):
    if index not in frame.children and not has(eqn, Trait.READS_PART):
      read += _hashable(eqn.invars)
  out = {a for var in dict.fromkeys(read) for dim in frame.dims[var] for a in leaves(dim)}
  called = [roles for index, roles in frame.children.items() if index not in frame.given_up]
  return out.union(*(_used(each) for roles in called for each in roles.values()))


def _is_new_value(old: Dims, new: Dims, taken: set[Atom]) -> bool:
  """Whether a result has the axes of a param, as what is made from its old value has.

  An axis may also be nobody's, such as one along which a gradient is constant; but not all.
  """
  same = [resolve(a) == resolve(b) for a, b in zip(old, new)]
  free = [all(a.frozen is None and a not in taken for a in leaves(dim)) for dim in new]
  known = any(yes and resolve(dim) for yes, dim in zip(same, new))
  return known and all(a or b for a, b in zip(same, free))


def _variables(eqn: Any) -> list[Any]:
  return _hashable(eqn.invars)


def _hashable(variables: Any) -> list[Any]:
  return [var for var in variables if not isinstance(var, core.Literal)]


def _make_jaxpr(function: str, fn: Any, params: Params, args: Any) -> tuple[Any, Any]:
  if not callable(fn):
    raise _checks.not_a_function(function, fn)
  try:
    return jax.make_jaxpr(fn, return_shape=True)(params, *args)
  except Exception as error:
    raise _errors.not_traceable(function, error, args) from error


def _states(
  paths: list[str], shapes: list[Any], out_paths: list[str], outs: list[Any]
) -> list[int | None]:
  """Which results may be new values of params: by their shapes and the ends of their paths."""
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
