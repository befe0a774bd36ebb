"""Small networks of many kinds, with what an analysis of their channels has to find."""

import functools

import jax

from tests.zoo import (
  architectures,
  attention,
  channels,
  control,
  convolutional,
  hard,
  libraries,
  normalised,
  other,
  products,
  recurrent,
  transformers,
)
from tests.zoo._case import Case as Case

MODULES = (
  other,
  products,
  libraries,
  convolutional,
  normalised,
  channels,
  attention,
  transformers,
  recurrent,
  control,
  hard,
  architectures,
)

CASES: dict[str, Case] = {}
for _module in MODULES:
  assert not CASES.keys() & _module.CASES.keys()
  CASES.update(_module.CASES)


@functools.cache
def made(name):
  """``(fn, params, args)`` of a network: in one process always the same, so that it is made, and
  what is traced of it is traced, once."""
  with jax.enable_x64(False):  # flax makes its params in single precision
    return CASES[name].make()
