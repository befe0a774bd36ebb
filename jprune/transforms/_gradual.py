"""From dense to sparse, step by step."""

from __future__ import annotations

from typing import Any

import optax

from jprune.transforms._method import ByPath, Method, Step
from jprune.transforms._sparse_training import sparse_training
from jprune.typing import Schedule


def gradual(
  inner: optax.GradientTransformation, sparsity: float | Schedule, *, every: int, **settings: Any
) -> optax.GradientTransformationExtraArgs:
  """Gradual."""
  return sparse_training(Method('gradual', _pruned), inner, sparsity, every=every, **settings)


def _pruned(step: Step) -> tuple[ByPath, Any]:
  return step.best(step.scores(), among=step.masks), step.memory
