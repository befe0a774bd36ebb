"""Equations that only move entries: what they do to a mask, one function for each result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jprune.graph._program.frame import Frame

Moves: TypeAlias = list[Callable[[np.ndarray], Sequence[np.ndarray]]]


def _transpose(eqn: Any) -> Moves:
  return [lambda mask: [mask.transpose(eqn.params['permutation'])]]


def _reshape(eqn: Any) -> Moves:
  order = eqn.params.get('dimensions') if eqn.primitive.name == 'reshape' else None
  return [lambda mask: [mask.transpose(order).reshape(eqn.outvars[0].aval.shape)]]


def _broadcast(eqn: Any) -> Moves:
  shape, places = eqn.params['shape'], eqn.params['broadcast_dimensions']

  def move(mask: np.ndarray) -> Sequence[np.ndarray]:
    sizes = dict(zip(places, mask.shape))
    return [np.broadcast_to(mask.reshape([sizes.get(i, 1) for i in range(len(shape))]), shape)]

  return [move]


def _rev(eqn: Any) -> Moves:
  return [lambda mask: [np.flip(mask, eqn.params['dimensions'])]]


def _slice(eqn: Any) -> Moves:
  p = eqn.params
  strides = p['strides'] or [1] * len(p['start_indices'])
  bounds = list(map(slice, p['start_indices'], p['limit_indices'], strides))
  return [lambda mask: [mask[tuple(bounds)]]]


def _split(eqn: Any) -> Moves:
  axis, ends = eqn.params['axis'], np.cumsum(eqn.params['sizes'])
  part = lambda i: lambda mask: [np.split(mask, ends[:-1], axis)[i]]
  return [part(i) for i in range(len(ends))]


MOVES: dict[str, Callable[[Any], Moves]] = {
  'transpose': _transpose,
  'reshape': _reshape,
  'squeeze': _reshape,
  'expand_dims': _reshape,
  'broadcast_in_dim': _broadcast,
  'rev': _rev,
  'slice': _slice,
  'split': _split,
}
CUTS = ('slice', 'split')


def indexed(frame: Frame, eqn: Any) -> Callable[[np.ndarray], Sequence[np.ndarray]] | None:
  """What taking entries at indices does to a mask; ``None`` if they depend on the inputs."""
  indices = [frame.constant(var) for var in eqn.invars[1:]]
  if any(index is None for index in indices):
    return None

  def move(mask: np.ndarray) -> Sequence[np.ndarray]:
    with jax.ensure_compile_time_eval():
      places = [jnp.asarray(i, var.aval.dtype) for i, var in zip(indices, eqn.invars[1:])]
      return [np.asarray(eqn.primitive.bind(jnp.asarray(mask), *places, **eqn.params))]

  return move
