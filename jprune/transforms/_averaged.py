"""Any method, with masks that are chosen by running means instead of what is at hand."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp

from jprune.transforms import _errors
from jprune.transforms._method import Change, Method, Step, each, single
from jprune.typing import ByPath


class Means(NamedTuple):
  """Running means, float32, around a method's own memory.

  Attributes:
    params: of the weights, or ``()``.
    grads: of the gradients, before their correction for the start from 0; or ``()``.
    own: the method's memory.
  """

  params: ByPath | tuple[()]
  grads: ByPath | tuple[()]
  own: Any


def averaged(method: Method, params: float = 0.0, grads: float = 0.0) -> Method:
  r"""A method that chooses masks by running means of weights, of gradients, or of both.

  Its ``change`` sees :math:`\bar x_t = d\,\bar x_{t-1} + (1 - d)\,x_t` in the place of :math:`x_t`,
  as does the scorer. The mean of the weights starts from those at ``init``; that of the gradients
  from 0, and is divided by :math:`1 - d^t`. All else of the method works with what is at hand.

  Args:
    method: any method.
    params: :math:`d` of the weights in [0, 1); 0 for those at hand.
    grads: :math:`d` of the gradients.
  """
  params = _errors.check_decay(method.name, 'average_params', params)
  grads = _errors.check_decay(method.name, 'average_grads', grads)
  if not (params or grads):
    return method

  def remember(weights: ByPath) -> Means:
    return Means(
      each(lambda w: single(w) + 0, weights) if params else (),
      each(lambda w: jnp.zeros_like(single(w)), weights) if grads else (),
      method.remember(weights) if method.remember else (),
    )

  def observe(step: Step) -> Means:
    old = step.memory
    own = method.observe(_own(step)) if method.observe else old.own
    gone = not (
      method.dense or method.regrows
    )  # for good: units are judged by what is left of them
    left = lambda x, mask: jnp.where(mask, x, jnp.zeros_like(x))
    kept = lambda means: each(left, means, step.masks) if gone else means
    return Means(
      kept(_moved(params, old.params, step.weights)) if params else (),
      kept(_moved(grads, old.grads, step.grads)) if grads else (),
      own,
    )

  def change(choose: Change, step: Step) -> tuple[ByPath, Means]:
    means, seen = step.memory, _own(step)
    if params:
      seen = dataclasses.replace(seen, weights=means.params)
    if grads:
      count = jnp.asarray(step.count + 1, jnp.float32)
      there = -jnp.expm1(count * jnp.log(jnp.float32(grads)))
      seen = dataclasses.replace(seen, grads=each(lambda g: g / there.astype(g.dtype), means.grads))
    masks, own = choose(seen)
    return masks, means._replace(own=own)

  inside = lambda function: function and (lambda step: function(_own(step)))
  return method._replace(
    change=None if method.change is None else functools.partial(change, method.change),
    remember=remember,
    observe=observe,
    start=inside(method.start),
    gradient=inside(method.gradient),
    show=inside(method.show),
  )


def _own(step: Step) -> Step:
  """The step as the method knows it."""
  return dataclasses.replace(step, memory=step.memory.own)


def _moved(decay: float, means: ByPath, values: ByPath) -> ByPath:
  return each(lambda m, x: decay * m + (1 - decay) * x.astype(m.dtype), means, values)
