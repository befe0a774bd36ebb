"""Weights relative to their row and column, times their inputs: RIA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jprune import _checks
from jprune._entry import public
from jprune.scores._stats import raised, score_uses, unit_scaled
from jprune.typing import Params, Scores

if TYPE_CHECKING:
  from jprune.graph import Stats


@public
def ria(params: Params, stats: Stats, a: float = 0.5) -> Scores:
  r"""Relative importance and activations: no input and no output loses all of its weights.

  .. math:: s_{ij} = \Bigl(\frac{|W_{ij}|}{\sum_k |W_{kj}|} + \frac{|W_{ij}|}{\sum_k |W_{ik}|}
     \Bigr) \lVert x_i \rVert_2^a

  The sums run over the inputs and the outputs of each matrix product that the leaf is used in:
  each expert, head or layer of a scan by itself. Where one is 0, so is the score. Being relative,
  scores compare across outputs, so one threshold for a whole leaf will do.

  Args:
    params: tree of arrays.
    stats: a :class:`jprune.graph.Stats` of these params; no Gram matrices are needed.
    a: how much the norms of inputs count; 0 for not at all.

  Returns:
    Scores, float32, structure and shapes of ``params``; ``None`` for leaves that ``stats`` doesn't
    hold.

  Raises:
    ValueError: if there is no leaf, ``a`` is negative or not finite, or ``stats`` holds none of
      the leaves, is of leaves of other shapes or of no row; if scores of two leaves are
      2^200 apart.
    TypeError: if ``stats`` isn't a :class:`jprune.graph.Stats`, ``a`` isn't a number, or a leaf is
      a shape struct.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> params = {'w': jnp.array([[1.0, -3.0], [1.0, 3.0]])}
    >>> _, stats = jprune.graph.capture(fn, params, jnp.array([[4.0, 1.0]]))
    >>> ria(params, stats)['w']
    Array([[1.5 , 2.5 ],
           [0.75, 1.25]], dtype=float32)

  References:
    Zhang et al., Plug-and-play: an efficient post-training pruning method for large language
    models, ICLR 2024, arXiv:2402.12419
  """
  power = _checks.non_negative_number('ria', 'a', a)
  return score_uses('ria', params, stats, _score, power, degrees=(0, power))


def _score(w: jax.Array, moments: Any, power: jax.Array, a: float) -> jax.Array:
  size = jnp.abs(unit_scaled(w, (1, 2)))
  share = lambda axis: size / _nonzero(jnp.sum(size, axis=axis, keepdims=True))
  scores = (share(1) + share(2)) * jnp.power(moments.norm, jnp.float32(a))[:, :, None]
  return raised(scores, power)


def _nonzero(total: jax.Array) -> jax.Array:
  return jnp.where(total == 0, 1.0, total)
