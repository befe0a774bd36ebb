"""Products of a traced function one by one, with what pruning leaves of them."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jprune import _hosts, tree
from jprune.graph._analysis.multiply_adds import macs_of
from jprune.graph._analysis.provenance import MaskStep, Source, Sources, masks_after, owner, sources
from jprune.graph._analysis.traced import Traced
from jprune.graph._axes.sizes import Sizes
from jprune.graph._channels.read_masks import ReadMask
from jprune.graph._program.calls import call_of
from jprune.graph._program.frame import Frame
from jprune.graph._program.locations import line
from jprune.graph._rules.base import RULES, multiplies


class Macs(NamedTuple):
  """Multiply-adds three times over, as Python ints.

  Attributes:
    dense: of the function as it is.
    sparse: without those of pruned weights.
    shrunk: without the channels of which nothing is left.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.ones((3, 8)), 'out': jnp.ones((8, 2))}
    >>> jprune.graph.macs(fn, params, jnp.ones((1, 3))).leaves['in']
    Macs(dense=24, sparse=24, shrunk=24)
  """

  dense: int
  sparse: int
  shrunk: int


@dataclasses.dataclass(frozen=True)
class Product:
  """One equation that multiplies and adds, or its part for one of several concatenated leaves.

  Attributes:
    primitive: its name in the jaxpr.
    line: where in the user's code it comes from, ``file.py:12``; empty if unknown.
    leaf: path of the leaf that it multiplies by; ``None`` if both operands are activations, or if
      one is computed from several leaves.
    times: how often it runs: the product of the lengths of the scans around it.
    macs: its :class:`Macs`, of all times together. Of the branches of a ``lax.cond`` the most
      expensive one counts, the others are zero.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.ones((3, 8)), 'out': jnp.ones((8, 2))}
    >>> product = jprune.graph.macs(fn, params, jnp.ones((1, 3))).equations[0]
    >>> product.primitive, product.leaf, product.times
    ('dot_general', 'in', 1)
  """

  primitive: str
  line: str
  leaf: str | None
  times: int
  macs: Macs


def products(
  traced: Traced, masks: Sequence[ReadMask | None] | None, small: Sizes
) -> list[Product]:
  """All products in the order in which they run."""
  return _Rows(traced, masks, small).of(traced.frame, 1)


def uncounted(frame: Frame) -> Iterator[tuple[Any, str]]:
  """The equations whose multiply-adds aren't known, and why."""
  for index, eqn in enumerate(frame.jaxpr.eqns):
    name, children = eqn.primitive.name, frame.children.get(index, {})
    if name not in RULES:
      yield eqn, 'what it multiplies is not known'
    call = call_of(eqn)
    if call.waits and any(_has_products(child) for child in children.values()):
      yield eqn, 'its products are counted once, for its length is not known'
    for role in call.roles if children else ():
      yield from uncounted(children[role])


def _has_products(frame: Frame) -> bool:
  return any(multiplies(eqn) is not None for eqn in frame.jaxpr.eqns) or any(
    _has_products(child) for children in frame.children.values() for child in children.values()
  )


class _Rows:
  """The walk, and what it has found out about masks."""

  def __init__(self, traced: Traced, masks: Sequence[ReadMask | None] | None, small: Sizes) -> None:
    self._paths = traced.paths
    self._masks = masks or [None] * len(traced.paths)
    self._full, self._small = Sizes({}), small
    self._sources: Sources = sources(traced.frame, [leaf.shape for leaf in traced.leaves])
    self._kept: dict[Any, tuple[int, int]] = {}
    self._steps: list[MaskStep | None] = []  # kept alive, for their ids are keys

  def of(self, frame: Frame, times: int) -> list[Product]:
    """The products of a frame that runs so often, and of all that it calls."""
    out = []
    for index, eqn in enumerate(frame.jaxpr.eqns):
      if multiplies(eqn) is not None:
        out += self._rows(frame, index, times)
      if children := frame.children.get(index):
        call = call_of(eqn)
        turns = 1 if call.turns is None else call.turns
        found = [self.of(children[role], times * turns) for role in call.roles]
        out += _most_expensive(found) if call.branches else itertools.chain(*found)
    return out

  def _rows(self, frame: Frame, index: int, times: int) -> list[Product]:
    eqn = frame.jaxpr.eqns[index]
    source = owner(self._sources, frame, eqn)
    dense, small = (times * int(macs_of(frame, index, s)) for s in (self._full, self._small))
    parts = [(source, dense, small)]
    if source is not None and source.parts:
      shares = zip(_divided(dense, source, self._full), _divided(small, source, self._small))
      parts = [(part.source, *share) for part, share in zip(source.parts, shares)]
    rows = []
    for source, dense, small in parts:
      leaf = None if source is None or source.leaf is None else self._paths[source.leaf]
      macs = Macs(dense, _rounded(dense, *self._share(source)), small)
      rows.append(Product(eqn.primitive.name, line(eqn), leaf, times, macs))
    return rows

  def _share(self, source: Source | None) -> tuple[int, int]:
    """How many of the entries of an operand are kept, and how many there are."""
    if source is None or source.leaf is None:
      return 1, 1
    if (mask := self._masks[source.leaf]) is None:
      return 1, 1
    steps = source.steps if source.followed and source.steps and source.steps.cuts else None
    key = source.leaf, id(steps)
    if key not in self._kept:
      self._steps.append(steps)
      self._kept[key] = _entries(mask, steps)
    return self._kept[key]


def _entries(mask: ReadMask, steps: MaskStep | None) -> tuple[int, int]:
  """How many entries a mask keeps of those that such steps leave, and how many these are."""
  if steps is None:
    return mask.kept, max(tree.size(mask.array), 1)
  found = masks_after(steps, _hosts.whole(mask.array))
  kept = sum(int(np.count_nonzero(each)) for each in found)
  return kept, max(sum(each.size for each in found), 1)


def _divided(total: int, source: Source, sizes: Sizes) -> list[int]:
  """The multiply-adds by each of several concatenated leaves: as many as it has entries."""
  entries = [
    math.prod(int(sizes.small_size(dim)) for dim in part.frame.dims_of(part.var))
    for part in source.parts
  ]
  return [_rounded(total, each, sum(entries)) for each in entries]


def _most_expensive(branches: list[list[Product]]) -> list[Product]:
  """All rows, each count zero unless it is of the branch with the largest sum of that count."""
  totals = [sum_of(row.macs for row in rows) for rows in branches]
  out = []
  chosen = [max(range(len(branches)), key=lambda i: totals[i][k]) for k in range(3)]
  for i, rows in enumerate(branches):
    for row in rows:
      macs = Macs(*(count if chosen[k] == i else 0 for k, count in enumerate(row.macs)))
      out.append(dataclasses.replace(row, macs=macs))
  return out


def sum_of(counts: Any) -> Macs:
  """The sum of :class:`Macs`."""
  return Macs(*map(sum, zip(Macs(0, 0, 0), *counts)))


def _rounded(total: int, part: int, whole: int) -> int:
  """``total * part / whole``, without floats."""
  return (2 * total * part + whole) // (2 * whole) if whole else 0
