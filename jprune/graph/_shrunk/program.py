"""The smaller function: traced at full shapes, evaluated at small ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jprune import _checks, tree
from jprune.graph import _errors
from jprune.graph._analysis.traced import Traced
from jprune.graph._axes.atoms import Atom, Dim, is_frozen, leaves
from jprune.graph._axes.sizes import Sizes
from jprune.graph._axes.units import layout, numbered
from jprune.graph._channels.reasons import why_frozen
from jprune.graph._program.foreign import without_foreign
from jprune.graph._program.outputs import Filter
from jprune.graph._program.sharding import struct
from jprune.graph._rules.base import RULES
from jprune.graph._shrunk.evaluate import Small
from jprune.typing import Params

Kept = Mapping[str, Mapping[int, np.ndarray]]
"""By leaf path and axis, which indices stay (bool); axes that lose nothing are left out."""


class Program:
  """``fn`` with the channels left out that ``kept`` leaves out; called like ``fn``.

  Its params may be any tree with their leaf paths, as a dict from path to leaf is.

  Under ``jax.jit``, so that the Python code of ``fn`` runs, and full shapes are traced, only for
  new structures, shapes and dtypes of arguments.
  """

  def __init__(
    self,
    fn: Callable[..., Any],
    shapes: Mapping[str, tuple[int, ...]],
    treedef: Any,
    kept: Kept,
    small_outputs: Filter = None,
  ) -> None:
    self._fn = fn
    self._small_outputs = small_outputs
    self._shapes = dict(shapes)
    self._treedef = treedef
    self._kept = kept
    self._run = jax.jit(self._evaluate)
    self.__name__ = self.__qualname__ = f'small_{getattr(fn, "__name__", "fn")}'
    self.__wrapped__ = fn

  def __call__(self, params: Params, *args: Any, **keywords: Any) -> Any:
    _checks.check_no_keywords('small.fn', keywords)
    self._check(*tree.flatten(params)[:2])
    return self._run(params, *args)

  def _check(self, paths: list[str], values: list[Any]) -> None:
    expected = list(self._shapes)
    if paths != expected and sorted(paths) != sorted(expected):
      missing = [path for path in expected if path not in paths]
      extra = [path for path in paths if path not in expected]
      raise _checks.other_params('small.fn', missing, extra, paths, 'small.params')
    for path, value in zip(paths, values):
      kept = self._kept.get(path, {})
      full = enumerate(self._shapes[path])
      small = tuple(int(kept[i].sum()) if i in kept else n for i, n in full)
      if np.shape(value) != small:
        raise _errors.other_shape('small.fn', path, value, small)

  def _evaluate(self, params: Params, *args: Any) -> Any:
    found = dict(zip(*tree.flatten(params)[:2]))
    values = [found[path] for path in self._shapes]
    structs = [struct(jax.typeof(x), full) for full, x in zip(self._shapes.values(), values)]
    full, outputs = self._treedef.unflatten(structs), self._small_outputs
    try:
      traced = Traced('small.fn', self._fn, full, args, small_outputs=outputs)
    except TypeError as error:  # load_shrunk doesn't call it: this is the first time
      better = _checks.module_for_function('small.fn', 'fn', self._fn)
      if better is None:
        raise
      raise better from error
    small = Small(keeps_of(traced, self._kept))
    run = lambda *xs: small(traced.frame, list(xs))
    xs = [*values, *jax.tree.leaves(args)]
    if traced.foreign:  # so are functions that are called here, and JAX keeps what is traced
      run = core.jaxpr_as_fun(without_foreign(jax.make_jaxpr(run)(*xs), RULES))
    return jax.tree.unflatten(traced.out_tree, run(*xs))


def keeps_of(traced: Traced, kept: Kept) -> dict[Atom, np.ndarray]:
  """What stays of each atom, so that the leaves keep just what ``kept`` says.

  Raises:
    ValueError: if the traced function ties axes that ``kept`` doesn't treat alike, or freezes one
      that loses something.
  """
  numbers = numbered(traced.dims)
  keeps: dict[Atom, np.ndarray] = {}
  for path, dims in zip(traced.paths, traced.dims):
    for axis, keep in kept.get(path, {}).items():
      for owner, units in layout(dims[axis], numbers):
        inside = units >= 0
        atoms = (owner,) if isinstance(owner, Atom) else tuple(numbers[owner])
        size = owner.size if isinstance(owner, Atom) else len(atoms)
        found = np.bincount(units[inside], keep[inside], size) > 0
        met = np.bincount(units[inside], minlength=size) > 0
        if isinstance(owner, Atom):
          keeps[owner] = keeps.get(owner, False) | found
        else:
          for atom, yes, here in zip(atoms, found, met):
            if here:
              keeps[atom] = keeps.get(atom, np.zeros(1, bool)) | yes
  sizes = Sizes(keeps)
  for path, dims in zip(traced.paths, traced.dims):
    for axis, dim in enumerate(dims):
      found, wanted = sizes.keep(dim), kept.get(path, {}).get(axis)
      _check_same(path, axis, dim, found, wanted, traced.foreign)
  return keeps


def _check_same(
  path: str, axis: int, dim: Dim, found: Any, wanted: np.ndarray | None, foreign: bool
) -> None:
  full = np.ones(1, bool)
  if not np.array_equal(full if found is None else found, full if wanted is None else wanted):
    frozen = is_frozen(dim) or any(atom.frozen is not None for atom in leaves(dim))
    why = why_frozen(dim) if frozen else 'it is tied to other axes'
    raise _errors.not_shrinkable('small.fn', path, axis, why, foreign)
