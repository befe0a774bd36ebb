"""One call of the user's function, and the params that it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jprune import _checks, _hosts, tree
from jprune._entry import check_dtypes, explicit
from jprune.masks._apply import zero_where_pruned
from jprune.sensitivity import _errors
from jprune.typing import Params

EVALUATE = 'evaluate(params) -> float, higher = better'


def measured(
  function: str,
  evaluate: Callable[[Params], Any],
  params: Params,
  when: str,
  argument: str = 'evaluate',
  finite: bool = True,
) -> float:
  """``evaluate(params)`` as a float; ``when`` says in the message what was evaluated.

  Of params that span processes it is what the first process has found, so that all go on alike.
  """
  value = evaluate(params)
  if _hosts.spans(params):
    metric = _errors.as_metric(function, argument, value, when, finite=False)
    value = float(_hosts.from_all(np.float64(metric))[0])
  return _errors.as_metric(function, argument, value, when, finite) + 0.0  # no -0.0


def check_params(function: str, params: Params) -> None:
  """Metrics are numbers, so nothing here runs under a trace; and points are known by paths."""
  check_dtypes(function, params)
  paths, leaves, _ = tree.flatten(params)
  _checks.check_distinct(function, paths)
  for path, leaf in zip(paths, leaves):
    if tree.is_traced(leaf):
      raise _checks.traced(function, 'params', path, leaf)


class Masked:
  """Params, a few leaves of which are masked at a time: always of the same shapes and dtypes.

  Leaves that are ever masked are made arrays of JAX at once, so that a compiled ``evaluate`` sees
  the same types at every point.
  """

  @explicit
  def __init__(self, params: Params, chosen: Sequence[bool]) -> None:
    _, leaves, self._treedef = tree.flatten(params)
    strong = lambda leaf: jnp.asarray(leaf, leaf.dtype)  # not weakly typed: masked ones aren't
    self._leaves = [strong(leaf) if yes else leaf for leaf, yes in zip(leaves, chosen)]

  @explicit
  def __call__(self, masks: Mapping[int, Any]) -> Params:
    """The params with the leaves at these places masked."""
    held = list(self._leaves)
    for place, mask in masks.items():
      held[place] = zero_where_pruned(held[place], mask)
    return self._treedef.unflatten(held)
