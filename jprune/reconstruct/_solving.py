"""What owners compute: matrices of size one and their Gram matrices, solved, put back to size.

A solver sees matrices ``(batch, inputs, outputs)`` and Gram matrices, each over a power of two that
makes its largest entries about 1: nothing that it squares leaves float32. What it makes of them is
cast to the leaf's dtype and measured, here, where the Gram matrix is.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _powers
from jprune.graph._statistics.moments import Moments
from jprune.reconstruct import _hessian
from jprune.reconstruct._error import energy, exponent
from jprune.reconstruct._owners import Dealt, Owners


class Solved(NamedTuple):
  """What a solver makes of matrices.

  Attributes:
    matrices: ``(batch, inputs, outputs)``, float32; 0.0 where pruned.
    masks: of the same shape.
    damping: ``(batch,)``, what was added to the diagonals, as fractions of their means.
  """

  matrices: jax.Array
  masks: jax.Array
  damping: jax.Array


class Common(NamedTuple):
  """What is the same for all matrices of a use.

  Attributes:
    orders: int32, ``(inputs,)`` and ``(outputs,)``; their sum grows with the index in the leaf.
    moved: the place in the moments of each input, or ``None`` if that is its own.
    numbers: options that nothing has to be compiled anew for.
  """

  orders: tuple[Any, Any] | None
  moved: Any
  numbers: tuple[Any, ...]


class Matrices(NamedTuple):
  """What a solver sees.

  Attributes:
    weights: ``(batch, inputs, outputs)``, float32, over a power of two.
    gram: ``(batch, inputs, inputs)``, over another.
    rows: ``(batch,)``, how many the Gram matrix is of.
    mask: bools of the shape of the weights: those to keep, or what may be kept; or ``None``.
    counts: ``(batch, ...)``, how many weights go, as the solver asked for; or ``None``.
    common: what is the same for all.
  """

  weights: jax.Array
  gram: jax.Array
  rows: jax.Array
  mask: Any
  counts: Any
  common: Common


@dataclasses.dataclass(frozen=True)
class Solver:
  """A way to solve, with the options that programs are compiled for.

  One whose programs depend on what it finds looks first, and is asked which one each unit takes.
  """

  looks: ClassVar[bool] = False

  def look(self, given: Matrices) -> tuple[Any, jax.Array]:
    """What to go on with, and what is to be known of it, ``(batch, ...)``."""
    raise NotImplementedError

  def program(self, seen: np.ndarray) -> Hashable:
    """Which program goes on, from what is known of all matrices of a unit."""
    raise NotImplementedError

  def solve(self, program: Any, given: Matrices, state: Any) -> Solved:
    """Weights and masks; ``state`` is what the look was, or ``None``."""
    raise NotImplementedError

  @classmethod
  def floats(cls, sizes: tuple[int, int, int], sparsity: float) -> int:
    """How many of 4 bytes a unit takes to be solved, besides what it is given and gives back."""
    raise NotImplementedError

  @classmethod
  def macs(cls, sizes: tuple[int, int, int], sparsity: float, **options: Any) -> int:
    """Multiply-adds of a matrix, at most, by their leading terms."""
    raise NotImplementedError


def macs_of_errors(sizes: tuple[int, int, int]) -> int:
  """Multiply-adds of measuring what became of a matrix."""
  return 3 * sizes[1] ** 2 * sizes[2]


class Done(NamedTuple):
  """Of the owners' matrices: weights as the leaf has them, masks, and what is reported.

  Attributes:
    weights: ``(..., inputs, outputs)``.
    masks: of the same shape.
    facts: ``(..., 6)``, float32: damping; whether all weights are finite; an exponent; and over
      four to its power the squares of the outputs, of what the masks alone do to them, and of what
      they and the repair do.
  """

  weights: jax.Array
  masks: jax.Array
  facts: jax.Array


@functools.partial(jax.jit, static_argnames=['owners', 'solver'])
def look(dealt: Dealt, counts: Any, common: Common, *, owners: Owners, solver: Solver) -> Any:
  """The first part of a solver; what is to be known is whole on all devices."""

  def first(given: tuple[Dealt, Any], common: Common) -> Any:
    return solver.look(_matrices(given[0], given[1], common)[0])

  state, seen = owners.apart(first, (dealt, counts), common)
  return state, owners.everywhere(seen)


@functools.partial(jax.jit, static_argnames=['owners', 'solver', 'program'])
def solve(
  dealt: Dealt, counts: Any, state: Any, common: Common, *, owners: Owners, solver: Solver,
  program: Any,
) -> Done:  # fmt: skip
  """The second part, or all of it."""

  def one(given: Any, common: Common) -> Done:
    dealt, counts, state = given
    matrices, power = _matrices(dealt, counts, common)
    return _done(dealt, solver.solve(program, matrices, state), power, common)

  done = owners.apart(one, (dealt, counts, state), common)
  return done._replace(facts=owners.everywhere(done.facts))


@jax.jit
def chosen(options: Sequence[Done], which: Any) -> Done:
  """Of each matrix that one of several outcomes that ``which``, ``(batch,)``, numbers."""
  pick = lambda *each: jnp.stack(each)[which, jnp.arange(len(which))]
  return jax.tree.map(pick, *options)


def _matrices(dealt: Dealt, counts: Any, common: Common) -> tuple[Matrices, jax.Array]:
  """What the solver sees, and the powers of two that the weights are over, ``(batch, 1, 1)``."""
  weights = _powers.wide(dealt.weights)
  power = _powers.exponent(weights, axis=(1, 2))[:, None, None]
  weights = _powers.times(weights, -power).astype(jnp.float32)
  moments = _moved(dealt.moments, common.moved)
  gram = _hessian.of_size_one(moments)
  return Matrices(weights, gram, moments.count, dealt.mask, counts, common), power


def _moved(moments: Moments, moved: Any) -> Moments:
  """Those of the inputs in another order."""
  if moved is None:
    return moments
  take = lambda x: None if x is None else x[:, moved]
  return dataclasses.replace(
    moments,
    mean=take(moments.mean),
    squares=take(moments.squares),
    zeros=take(moments.zeros),
    exponent=take(moments.exponent),
    products=None if moments.products is None else moments.products[:, moved][:, :, moved],
  )


def _done(dealt: Dealt, solved: Solved, power: jax.Array, common: Common) -> Done:
  dtype, mask = dealt.weights.dtype, solved.masks
  before = _powers.wide(dealt.weights)
  new = _powers.times(solved.matrices.astype(before.dtype), power)
  new = jnp.where(mask, new, jnp.zeros_like(new)).astype(dtype)
  moments = _moved(dealt.moments, common.moved)
  down = exponent(before, moments)
  of = lambda w: energy(w, moments, down)
  finite = jnp.all(jnp.isfinite(new), axis=(1, 2))
  after = of(_powers.wide(new) - before)
  alone = of(jnp.where(mask, jnp.zeros_like(before), -before))
  facts = [solved.damping, finite, down, of(before), alone, after]
  return Done(new, mask, jnp.stack([x.astype(jnp.float32) for x in facts], axis=1))
