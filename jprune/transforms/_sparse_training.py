"""One call for all methods."""

from __future__ import annotations

from typing import Any

import jax
import optax

from jprune import _checks, distributions, scores
from jprune._entry import explicit
from jprune._selection import Asked
from jprune.masks import Unstructured
from jprune.transforms._frame import Frame
from jprune.transforms._method import Method
from jprune.transforms._when import when
from jprune.typing import Schedule


def sparse_training(
  method: Method,
  inner: optax.GradientTransformation,
  sparsity: float | Schedule,
  *,
  every: int,
  end: int | None = None,
  scorer: Any = scores.magnitude,
  distribution: Any = distributions.uniform,
  pattern: Any = Unstructured(),
  where: Any = None,
  roles: Any = None,
  key: jax.Array | None = None,
  packed: bool = False,
  clock: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """Doc."""
  frame = Frame(
    method,
    optax.with_extra_args_support(inner),
    when(method.name, sparsity, every, end, method.regrows),
    scorer,
    Asked(distribution, pattern, roles),
    where,
    key,
    packed,
    clock,
  )
  return optax.GradientTransformationExtraArgs(explicit(frame.init), explicit(frame.update))
