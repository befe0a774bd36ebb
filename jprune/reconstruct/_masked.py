"""Leaves that are masked and not repaired: what they are compared with."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jprune.graph._statistics.stats import Stats
from jprune.reconstruct import _leaves, _units
from jprune.reconstruct._solving import Matrices, Solved, Solver, macs_of_errors


@dataclasses.dataclass(frozen=True)
class Masked(Solver):
  """What is kept as it is."""

  def solve(self, program: None, given: Matrices, state: None) -> Solved:
    none = jnp.zeros(given.weights.shape[0], jnp.float32)
    return Solved(jnp.where(given.mask, given.weights, 0.0), given.mask, none)

  @classmethod
  def floats(cls, sizes: tuple[int, int, int], sparsity: float) -> int:
    return 4 * sizes[1] * sizes[2]

  @classmethod
  def macs(cls, sizes: tuple[int, int, int], sparsity: float, **options: Any) -> int:
    return macs_of_errors(sizes)


def masked(
  function: str, leaves: dict[str, jax.Array], masks: dict[str, jax.Array], stats: Stats
) -> dict[str, _units.Outcome]:
  """Leaves under given masks, for a caller of that name."""
  tasks = []
  for path, leaf in leaves.items():
    uses = _leaves.uses_of(function, stats, path, leaf)
    tasks.append(_leaves.masked_task(path, leaf, uses, masks[path], Masked(), 0.0))
  found = zip(leaves, _units.solved(function, tasks), strict=True)
  return {path: done._replace(row=_leaves.noted(done.row, stats)) for path, done in found}
