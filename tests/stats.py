"""Statistics of given inputs, without any function: what scorers and repair are tested with."""

import jax.numpy as jnp

from jprune.graph._statistics.moments import moments_of
from jprune.graph._statistics.stats import Stats, Use


def of_inputs(inputs, outputs, weights=None, gram=True):
  """Stats of kernels ``(in, out)`` or ``(batch, in, out)``, given what they are multiplied by.

  ``inputs``: by path, arrays ``(rows, in)`` or ``(batch, rows, in)``; the same array for two paths
  is one input. ``outputs``: by path, how many outputs the kernel has.
  """
  distinct, uses = [], []
  for path, x in inputs.items():
    place = next((i for i, y in enumerate(distinct) if y is x), len(distinct))
    distinct[place:] = distinct[place:] or [x]
    shape = (*x.shape[:-2], x.shape[-1], outputs[path])
    last = len(shape) - 1
    batch = tuple(range(last - 1))
    box = tuple((0, n) for n in shape)
    axes = tuple(range(last + 1))
    uses.append((path, (Use(box, shape, axes, batch, (last - 1,), (last,), place),)))
  found = [x if x.ndim == 3 else x[None] for x in map(jnp.asarray, distinct)]
  return Stats(tuple(moments_of(x, weights, gram) for x in found), tuple(uses))
