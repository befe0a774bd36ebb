"""From two functions to what optax chains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optax

from jprune._entry import explicit


def transformation(
  init: Callable[..., Any], update: Callable[..., tuple[Any, Any]]
) -> optax.GradientTransformationExtraArgs:
  """A transformation that is explicit in its transfers.

  Args:
    init: from the params to the first state.
    update: ``(updates, state, params, **extra_args) -> (updates, state)``. Of the states it takes
      those alone that come from ``init``, which is less than what optax's type says.
  """
  return optax.GradientTransformationExtraArgs(explicit(init), explicit(update))
