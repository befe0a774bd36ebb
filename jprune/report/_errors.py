"""What is said when something is wrong; every message names function, argument, value and fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jprune._checks.words import message


def no_values(function: str, argument: str, path: str, leaf: Any) -> TypeError:
  fix = 'Kept weights can be counted in real masks only; params may be shape structs.'
  got = f'a shape struct of shape {tuple(leaf.shape)}'
  return TypeError(message(function, argument, 'arrays with values at hand', got, fix, path))


def check_recorded(function: str, seen: Mapping[str, Any], shape: tuple[int, ...]) -> None:
  """Metrics of one shape: that of the steps, and of the agents."""
  for name, value in seen.items():
    if np.shape(value) != shape:
      fix = 'Give count= an array where metrics are stacked over steps; agents stay as many.'
      got = f'{name!r} of shape {np.shape(value)}'
      raise ValueError(message(function, 'seen', f'metrics of shape {shape}', got, fix))


def nothing_recorded(function: str) -> ValueError:
  fix = 'Call add(state) after the steps of the training loop.'
  return ValueError(message(function, 'recorder', 'one with entries', 'none', fix))
