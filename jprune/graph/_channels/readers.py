"""Which leaves only read the channels of a group: products sum over them, and give none back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend import core

from jprune.graph._analysis.provenance import Source, owner, sources
from jprune.graph._analysis.traced import Traced
from jprune.graph._axes.atoms import Atom
from jprune.graph._axes.units import free_atoms
from jprune.graph._rules.base import multiplies, sides


def readers(traced: Traced, units: Sequence[Sequence[Atom]]) -> tuple[frozenset[str], ...]:
  """For each group, the leaves by which its channels are multiplied and summed, and no more."""
  shapes = [tuple(leaf.shape) for leaf in traced.leaves]
  summed: set[tuple[int, Atom]] = set()
  stay: set[tuple[int, Atom]] = set()
  found = sources(traced.frame, shapes)
  for frame, known in found.items():
    for index, eqn in enumerate(frame.jaxpr.eqns):
      if index in frame.children:
        continue
      goes_on = {leaf for var in eqn.outvars for leaf in _leaves_of(known.get(var))}
      axes_of = _summed_axes(eqn)
      by = owner(found, frame, eqn) if axes_of else None
      for operand, var in enumerate(eqn.invars):
        source = None if isinstance(var, core.Literal) else known[var]
        leaves = _leaves_of(source)
        axes = axes_of.get(operand, ()) if source is by else ()
        if not axes_of:  # what a leaf holds becomes a value of its own
          leaves = [leaf for leaf in leaves if leaf not in goes_on]
        for axis, dim in enumerate(frame.dims_of(var) if leaves else ()):
          side = summed if axis in axes else stay
          side.update((leaf, atom) for atom in free_atoms(dim) for leaf in leaves)
  paths = traced.paths
  return tuple(
    frozenset(
      {paths[leaf] for leaf, atom in summed if atom in own}
      - {paths[leaf] for leaf, atom in stay if atom in own}
    )
    for own in map(set, units)
  )


def _summed_axes(eqn: Any) -> dict[int, tuple[int, ...]]:
  """By operand of a product that may be a leaf: the axes that are summed over."""
  how = multiplies(eqn)
  kernels = () if how is None else (0, 1) if how.kernel is None else (how.kernel,)
  return {k: (*sides(eqn, k).inputs, *sides(eqn, k).window) for k in kernels}


def _leaves_of(source: Source | None) -> list[int]:
  if source is None:
    return []
  if source.leaf is not None:
    return [source.leaf]
  return [part.source.leaf for part in source.parts if part.source.leaf is not None]
