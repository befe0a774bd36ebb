"""Where the units of an atom lie in an array."""

import itertools

import numpy as np

from jprune.graph._axes.atoms import resolve, size_of


def addresses(dim):
  """For each index of a dimension the free and frozen atoms it lies on.

  Returns:
    A list of ``{(atom, where): unit}``; ``where`` is all that is said of the index but the unit.
  """
  dim = resolve(dim)
  found = [[({(atom, ()): j}, j) for j in range(atom.size)] for atom in dim]
  for k, atom in enumerate(dim):
    if atom.segments is not None:
      inner = [(n, i, each) for n, part in enumerate(atom.segments) for i, each in _of_part(part)]
      found[k] = [({(a, (n, *w)): j for (a, w), j in each.items()}, (n, i)) for n, i, each in inner]
  out = []
  for chosen in itertools.product(*found):
    all_of = [name for _, name in chosen]
    out.append(
      {
        (atom, (k, *where, *all_of[:k], *all_of[k + 1 :])): unit
        for k, (each, _) in enumerate(chosen)
        for (atom, where), unit in each.items()
      }
    )
  return out


def _of_part(part):
  return enumerate(addresses(part)) if size_of(part) else []


def moved(x, dims, atom, order):
  """The array with the units of an atom in another order."""
  for axis, dim in enumerate(dims):
    x = np.take(x, [_image(dim, i, atom, order) for i in range(size_of(dim))], axis)
  return x


def _image(dim, index, atom, order):
  """The index that differs in the units of the atom, which become those of the order."""
  out, scale = 0, 1
  for factor in reversed(resolve(dim)):
    index, here = divmod(index, factor.size)
    if factor is atom:
      here = order[here]
    elif factor.segments is not None:
      start = 0
      for part in factor.segments:
        if start <= here < start + size_of(part):
          here = start + _image(part, here - start, atom, order)
          break
        start += size_of(part)
    out += scale * here
    scale *= factor.size
  return out


def lying_on(shape, dims, units):
  """Which entries lie on units of an atom, given as ``{atom: units}``."""
  out = np.zeros(shape, bool)
  for atom, gone in units.items():
    for axis, line in lines_of(dims, atom, gone):
      along(out, axis)[line] = True
  return out


def lines_of(dims, atom, gone):
  """Pairs ``(axis, indices)``: those that differ in nothing but the pruned unit of the atom."""
  out = []
  for axis, dim in enumerate(dims):
    lines = {}
    for i, each in enumerate(addresses(dim)):
      for (a, where), unit in each.items():
        if a is atom and unit in gone:
          lines.setdefault(where, []).append(i)
    out += [(axis, line) for line in lines.values()]
  return out


def along(x, axis):
  """A view with this axis first."""
  return np.moveaxis(x, axis, 0)
