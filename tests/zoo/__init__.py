"""Small networks of many kinds, with what an analysis of their channels has to find."""

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

_MODULES = (
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
for _module in _MODULES:
  assert not CASES.keys() & _module.CASES.keys()
  CASES.update(_module.CASES)
