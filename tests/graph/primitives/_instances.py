"""Instances of primitives: a function of a few arrays in which the primitive stands, by name.

``FORMS`` is the table: for each primitive the functions that make random instances of one form. A
form may have several primitives in it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FORMS: dict[str, list[Callable[[Any], Any]]] = {}
NAMES: dict[Callable[[Any], Any], list[str]] = {}  # of the primitives in a form


class Operand(NamedTuple):
  """An array that goes in; its numbers lie from ``low`` to ``high``."""

  shape: tuple[int, ...]
  dtype: Any = 'float64'
  low: float = -2
  high: float = 2
  lifted: bool = True  # whether a sum may take its place
  finite: bool = False  # whether none of it is ever infinite or NaN

  @property
  def struct(self):
    return jax.ShapeDtypeStruct(self.shape, self.dtype)


class Instance(NamedTuple):
  """A primitive in a function of a few arrays.

  Attributes:
    fn: the function; it returns an array or several.
    operands: what goes in.
    apart: whether units have nothing to do with each other but where they are summed away.
    alike: whether units may trade places: nothing that stands there tells them apart.
    batched: whether ``vmap`` may go over it.
  """

  fn: Callable[..., Any]
  operands: tuple[Operand, ...]
  apart: bool = True
  alike: bool = True
  batched: bool = True


def form(names):
  """Enters a function ``rng -> Instance`` as a form of these primitives."""

  def enter(make):
    NAMES[make] = names.split()
    for name in NAMES[make]:
      FORMS.setdefault(name, []).append(make)
    return make

  return enter


def forms(names, make):
  """Enters ``make(name, rng)`` for each of the names."""
  for name in names.split():
    form(name)(functools.partial(make, name))


def sizes(rng, n, low=0):
  """Sizes of axes, most of them 2 to 4, some of them 1 or 0."""
  pool = [size for size in (0, 1, 1, *[2, 3, 4] * 4) if size >= low]
  return tuple(int(size) for size in rng.choice(pool, n))


# ---------------------------------------------------------------------------------------- variants


def variant(instance, rng, mapped, lifted):
  """The instance under ``vmap``, and of sums that stand for its operands."""
  if mapped and instance.batched:
    instance = _mapped(instance, rng)
  return _lifted(instance, rng) if lifted else instance


def _mapped(instance, rng):
  """Over a random axis of some operands."""
  chosen = rng.random(len(instance.operands)) < 0.7
  chosen[rng.integers(len(chosen))] = True
  size = int(rng.choice([2, 3]))
  axes, operands = [], []
  for yes, operand in zip(chosen, instance.operands):
    axis = int(rng.integers(len(operand.shape) + 1)) if yes else None
    shape = operand.shape if axis is None else _with(operand.shape, axis, size)
    axes.append(axis)
    operands.append(operand._replace(shape=shape))
  fn = jax.vmap(instance.fn, tuple(axes))
  return instance._replace(fn=fn, operands=tuple(operands))


def _with(shape, axis, size):
  return (*shape[:axis], size, *shape[axis:])


def _lifted(instance, rng):
  """Each ``x`` in which that is possible becomes ``x + y``, where ``y`` is one number along axes.

  Where ``x`` is zero, the sum is the same for all pruned units, and can be computed for them.
  """
  added, operands = {}, list(instance.operands)
  for i, operand in enumerate(instance.operands):
    if not operand.lifted or not operand.shape or rng.random() < 0.3:
      continue
    along = rng.random(len(operand.shape)) < 0.5
    along[rng.integers(len(along))] = True
    added[i] = len(operands)
    shape = tuple(1 if yes else n for yes, n in zip(along, operand.shape))
    operands.append(operand._replace(shape=shape))

  def fn(*xs):
    firsts = [_sum(x, xs[added[i]]) if i in added else x for i, x in enumerate(xs[:first])]
    return instance.fn(*firsts)

  first = len(instance.operands)
  return instance._replace(fn=fn, operands=tuple(operands))


def _sum(x, y):
  return x | y if jnp.issubdtype(x.dtype, np.bool_) else x + y


def random_instance(make, rng, mapped, lifted):
  """An instance of a form; as it is where ``vmap`` has no rule for it."""
  instance = make(rng)
  try:
    found = variant(instance, rng, mapped, lifted)
    jax.eval_shape(found.fn, *[operand.struct for operand in found.operands])
  except NotImplementedError:
    found = variant(instance, rng, False, lifted)
  return found
