"""Why axes are frozen, and which equations tie the members of a group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from jprune.graph._axes.atoms import Atom, Cause, Dim, resolve, size_of
from jprune.graph._axes.units import free_atoms
from jprune.graph._program.locations import described

_MOST_TIES = 64


def why_frozen(dim: Dim) -> str:
  """Why nothing, or not all, of a dimension can be pruned; empty if all of it can."""
  dim = resolve(dim)
  if not dim:
    return 'a single index'
  found: dict[str, list[tuple[int, int]]] = {}
  free = False
  if len(dim) == 1 and dim[0].segments is not None:
    start = 0
    for part in dim[0].segments:
      end = start + size_of(part)
      for cause in _causes(part):
        found.setdefault(described(cause), []).append((start, end))
      free = free or any(True for _ in free_atoms(part))
      start = end
    if free:
      return '; '.join(f'{_spans(spans)}: {why}' for why, spans in found.items())
  for cause in _causes(dim):
    found.setdefault(described(cause), [])
  free = any(atom.size > 1 or atom.family is not None for atom in free_atoms(dim))
  partly = 'a factor of it: ' if free and found else ''
  if not free and not found:
    found['a single index'] = []
  return partly + '; '.join(found)


def _spans(spans: list[tuple[int, int]]) -> str:
  merged: list[tuple[int, int]] = []
  for start, end in spans:
    if merged and merged[-1][1] >= start:
      merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
    else:
      merged.append((start, end))
  shown = ', '.join(f'{a}:{b}' for a, b in merged[:3])
  return shown + (', ...' if len(merged) > 3 else '')


def _causes(dim: Dim) -> Iterator[Cause]:
  """Why atoms of the dimension are frozen, one after the other."""
  for atom in resolve(dim):
    if atom.segments is not None:
      for part in atom.segments:
        yield from _causes(part)
    elif atom.frozen is not None:
      yield atom.frozen


def ties(atoms: Sequence[Atom]) -> tuple[str, ...]:
  """What tied the atoms, oldest first, each once."""
  out: dict[str, None] = {}
  seen: set[int] = set()
  stack: list[Any] = [atom.ties for atom in atoms[:8]]
  while stack and len(out) < _MOST_TIES:
    node = stack.pop()
    if node is None or id(node) in seen:
      continue
    seen.add(id(node))
    cause, *rest = node
    stack += rest
    if isinstance(cause, Cause):
      out[described(cause)] = None
  return tuple(reversed(out))
