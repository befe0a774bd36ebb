"""Two products become one and the same: by the common refinement of their factors and segments.

Of ``(a: 6)`` and ``(b: 2, c: 3)`` the atom ``a`` becomes the product of ``b`` and ``c``; of sums,
each is cut where the other one is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from jprune.graph._axes.atoms import Atom, Cause, Dim, Family, freeze, fresh, resolve, size_of

_ALONE = Cause('a single index that is used by itself')


def unify(a: Dim, b: Dim, cause: Cause) -> None:
  """Makes two products of one size the same, or freezes both where their factors don't fit."""
  a, b = resolve(a), resolve(b)
  while a and b and a is not b:
    x, y = a[-1], b[-1]
    if x is y:
      a, b = a[:-1], b[:-1]
    elif x.size == y.size:
      a, b = a[:-1], b[:-1]
      _unify_atoms(x, y, cause)
    else:
      big, small = (x, y) if x.size > y.size else (y, x)
      if big.size % small.size or not _divide(big, small.size, cause):
        both = cause._replace(text=f'its factors fit no common refinement: {cause.text}')
        freeze(a, both)
        freeze(b, both)
        return
    a, b = resolve(a), resolve(b)


def _unify_atoms(x: Atom, y: Atom, cause: Cause) -> None:
  x.ties = y.ties = (cause, x.ties, y.ties)
  if x.segments is None and y.segments is not None:
    x, y = y, x
  if x.segments is None or y.segments is None:  # a plain atom becomes whatever the other one is
    if y.frozen is not None:
      freeze((x,), y.frozen)
    if x.segments is None and x.frozen is None and x.family is not None and y.family is not None:
      x.family.merge(y.family)
    x.family = x.family or y.family
    y.bound = (x,)
    _pass_ties((x,), x.ties)
    return
  cuts = sorted(set(_cuts(x.segments)) | set(_cuts(y.segments)))
  mine, theirs = _refine(x.segments, cuts, cause), _refine(y.segments, cuts, cause)
  if mine is None or theirs is None:
    both = cause._replace(text=f'its segments fit no common refinement: {cause.text}')
    freeze((x,), both)
    freeze((y,), both)
    return
  frozen = x.frozen or y.frozen
  x.segments, y.bound = mine, (x,)
  for p, q in zip(mine, theirs):
    unify(p, q, cause)
  if frozen is not None:
    freeze((x,), frozen)


def _pass_ties(dim: Dim, ties: Any) -> None:
  """What ties a sum ties its segments."""
  for atom in resolve(dim):
    for part in atom.segments or ():
      for each in resolve(part):
        each.ties = (None, each.ties, ties)
        _pass_ties((each,), ties)


def _divide(atom: Atom, minor: int, cause: Cause) -> bool:
  """Binds an atom to (major, minor); a sum if all its segments divide, sharing the minor."""
  major = atom.size // minor
  if atom.segments is None:
    last = Atom(minor, atom.frozen)
    first = fresh(major, atom.frozen)
    for each in (*first, last):
      each.ties = atom.ties
    atom.bound = (*first, last)
    return True
  if any(size_of(part) % minor for part in atom.segments):
    return False
  last = Atom(minor, atom.frozen)
  majors: list[Dim] = []
  for part in atom.segments:
    rest = size_of(part) // minor
    if rest == 1:
      unify(part, (last,), cause)
      majors.append((Atom(1, _ALONE),))
    else:
      first = Atom(rest)
      unify(part, (first, last), cause)
      majors.append((first,))
  total = Atom(major, atom.frozen)
  total.segments = majors
  atom.bound = (total, last)
  return True


# --------------------------------------------------------------------------------------- segments


def sum_of(parts: Sequence[Dim]) -> Dim:
  """The dimension that is these products one after the other; none of them is of size 0."""
  parts = [part if part else (Atom(1, _ALONE),) for part in parts]
  if len(parts) == 1:
    return parts[0] if size_of(parts[0]) > 1 else ()
  total = Atom(sum(size_of(part) for part in parts))
  total.segments = list(parts)
  return (total,)


def segments(dim: Dim, cuts: Sequence[int], cause: Cause) -> list[Dim] | None:
  """The dimension cut at the given indices; ``None`` if its factors don't allow that."""
  dim = resolve(dim)
  if not cuts:
    return [dim]
  first, rest = dim[0], dim[1:]
  minor = size_of(rest)
  if any(cut % minor for cut in cuts):
    return None
  pieces = _cut(first, [cut // minor for cut in cuts], cause)
  if pieces is None:
    return None
  return [_standing((*piece, *rest), cause) for piece in pieces]


def _standing(dim: Dim, cause: Cause) -> Dim:
  """A segment as a dimension of its own: a lone index of it is needed, and no factor."""
  lone = tuple(atom for atom in dim if atom.size == 1)
  freeze(lone, cause._replace(text=f'one index of it is used by itself: {cause.text}'))
  return tuple(atom for atom in dim if atom.size > 1)


def _cut(atom: Atom, cuts: list[int], cause: Cause) -> list[Dim] | None:
  if atom.segments is None:
    bounds = [0, *cuts, atom.size]
    atom.segments = []
    for low, high in itertools.pairwise(bounds):
      part = Atom(high - low, atom.frozen)
      part.ties = atom.ties
      atom.segments.append((part,))
    return list(atom.segments)
  parts = _refine(atom.segments, sorted({*cuts, *_cuts(atom.segments)}), cause)
  if parts is None:
    return None
  atom.segments = parts
  out: list[Dim] = []
  current: list[Dim] = []
  end = 0
  ends = [*cuts, atom.size]
  for part in parts:
    current.append(part)
    end += size_of(part)
    if end == ends[len(out)]:
      out.append(current[0] if len(current) == 1 else sum_of(current))
      current = []
  return out


def _cuts(parts: Sequence[Dim]) -> list[int]:
  return list(itertools.accumulate(size_of(part) for part in parts))[:-1]


def _refine(parts: Sequence[Dim], cuts: Sequence[int], cause: Cause) -> list[Dim] | None:
  """The segments cut further; each piece stays a segment, so lone indices may stay free."""
  out: list[Dim] = []
  start = 0
  for part in parts:
    part = resolve(part)
    end = start + size_of(part)
    inner = [cut - start for cut in cuts if start < cut < end]
    if inner:
      minor = size_of(part[1:])
      if any(cut % minor for cut in inner):
        return None
      pieces = _cut(part[0], [cut // minor for cut in inner], cause)
      if pieces is None:
        return None
      out += [_standing((*piece, *part[1:]), cause) if minor > 1 else piece for piece in pieces]
    else:
      out.append(part)
    start = end
  return out


def singles(dim: Dim) -> list[Atom] | None:
  """One atom for each index of the dimension; ``None`` where a segment is a product."""
  dim = resolve(dim)
  if len(dim) != 1:
    return None
  (atom,) = dim
  if atom.segments is None:
    if atom.size == 1:
      return [atom]
    family = Family()
    out = [Atom(1, atom.frozen, family) for _ in range(atom.size)]
    for each in out:
      each.ties = atom.ties
    atom.segments = [(each,) for each in out]
    return out
  flat: list[Atom] = []
  for part in atom.segments:
    found = singles(part)
    if found is None:
      return None
    flat += found
  families = [each.family for each in flat if each.family is not None]
  for each in families[1:]:
    families[0].merge(each)
  atom.segments = [(each,) for each in flat]
  return flat
