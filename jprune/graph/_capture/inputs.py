"""What is recorded, and what of it each leaf sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax

from jprune.graph._analysis.leaf_views import Factor
from jprune.graph._capture.moments import Moments, scaled
from jprune.graph._capture.operand_roles import Rows, Weighing, Windows
from jprune.graph._capture.stacked_leaves import Pick
from jprune.graph._program.frame import Frame


class Input(NamedTuple):
  """One thing to record: the operand of an equation that some leaves are multiplied by.

  Attributes:
    frame: in which it is.
    index: of the equation.
    operand: which one.
    layout: how it becomes ``(batch, rows, inputs)``.
    stacked: bodies of the scans whose steps are kept apart; other loops add up.
    weighing: how weights line up with its rows: those of tokens, under ``None``, and under the body
      of a ``while`` whose lanes end one by one those that tell which are still running.
    factors: numbers that its rows are multiplied by, as the leaves are.
  """

  frame: Frame
  index: int
  operand: int
  layout: Rows | Windows
  stacked: frozenset[Frame]
  weighing: dict[Frame | None, Weighing]
  factors: tuple[Factor, ...] = ()


class Part(NamedTuple):
  """What a leaf sees of an input.

  Attributes:
    input: its place.
    scale: the known number that the entries of the leaf are multiplied by: the leaf sees inputs so
      much larger.
    pick: which of the products side by side are by the leaf, if others are by other leaves.
  """

  input: int
  scale: float
  pick: Pick | None = None

  def of(self, found: Mapping[int, Moments]) -> Moments:
    """Its moments, from those of all inputs."""
    moments = found[self.input]
    if self.pick is not None:
      moments = jax.tree.map(self.pick, moments)
    return moments if self.scale == 1 else scaled(moments, self.scale)
