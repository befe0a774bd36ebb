"""Weights and the activations that they multiply: Wanda."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jprune._entry import public
from jprune.scores._stats import raised, score_uses
from jprune.typing import Params, Scores

if TYPE_CHECKING:
  from jprune.graph import Stats


@public
def wanda(params: Params, stats: Stats) -> Scores:
  r"""Size of a weight times the norm of its input, over all rows that were captured.

  .. math:: s_{ij} = |W_{ij}| \, \lVert x_i \rVert_2

  A small weight on a large input may matter more than a large one on a small input. The paper
  compares weights that lead to the same output; for kernels that end in ``(inputs, outputs)`` that
  is :func:`jprune.masks.top_k_rows` along axis -2, and ``jprune.reconstruct.per_output`` does it
  for kernels of any shape. One threshold for a whole leaf, as :func:`jprune.prune` sets it, is
  another, weaker method. Where float32 could not hold them, scores of all leaves are over one power
  of two.

  Args:
    params: tree of arrays.
    stats: a :class:`jprune.graph.Stats` of these params; no Gram matrices are needed.

  Returns:
    Scores, float32, structure and shapes of ``params``; ``None`` for leaves that ``stats`` doesn't
    hold.

  Raises:
    ValueError: if there is no leaf, or ``stats`` holds none of the leaves, is of leaves of other
      shapes or of no row; if scores of two leaves are 2^200 apart.
    TypeError: if ``stats`` isn't a :class:`jprune.graph.Stats`, or a leaf is a shape struct.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> params = {'w': jnp.array([[1.0, -2.0], [1.0, 3.0]])}
    >>> _, stats = jprune.graph.capture(fn, params, jnp.array([[3.0, 1.0], [4.0, 0.0]]))
    >>> wanda(params, stats)['w']
    Array([[ 5., 10.],
           [ 1.,  3.]], dtype=float32)

  References:
    Sun et al., A simple and effective pruning approach for large language models, ICLR 2024,
    arXiv:2306.11695
  """
  return score_uses('wanda', params, stats, _score, degrees=(1, 1))


def _score(w: jax.Array, moments: Any, power: jax.Array) -> jax.Array:
  return raised(jnp.abs(w) * moments.norm[:, :, None], power)
