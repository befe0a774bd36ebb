"""Products that no batch runs: branches that are not taken, experts that nothing is routed to."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from jprune.graph._statistics.moments import Moments, exponents
from jprune.graph._statistics.stats import Stats

_LEAST = -(2**20)


def without_unseen(stats: Stats) -> tuple[Stats, list[str]]:
  """Statistics of the leaves of which some product has seen a row, and the paths of the others."""
  seen = [bool(np.any(np.asarray(moments.count))) for moments in stats.inputs]
  uses = tuple(each for each in stats.uses if any(seen[use.source] for use in each[1]))
  kept = {path for path, _ in uses}
  return dataclasses.replace(stats, uses=uses), [p for p in stats.paths if p not in kept]


def alike(stats: Stats) -> Stats:
  """The same with inputs of one size for products that have seen no row, as repair takes them."""
  return dataclasses.replace(stats, inputs=tuple(map(_alike, stats.inputs)))


def _alike(moments: Moments) -> Moments:
  none = moments.count == 0
  if np.all(~np.asarray(none)):
    return moments
  units = jnp.ones_like(moments.count)
  products = moments.products
  if products is not None:
    identity = jnp.broadcast_to(jnp.eye(products.shape[-1], dtype=jnp.float32), products.shape)
    products = jnp.where(none[:, None, None], identity, products)
  # near the inputs of the others, whatever their size
  power = jnp.max(moments.levelled()[1], where=~none, initial=_LEAST)
  power = jnp.where(power == _LEAST, 0, power)
  return dataclasses.replace(
    moments,
    exponent=jnp.where(none[:, None], power, exponents(moments)).astype(jnp.float32),
    count=jnp.where(none, units, moments.count),
    squares=jnp.where(none[:, None], units[:, None], moments.squares),
    products=products,
  )
