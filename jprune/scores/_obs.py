"""What a weight costs if the others make up for it: the optimal brain surgeon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular

from jprune import _checks
from jprune._entry import public
from jprune.scores._stats import one_by_one, raised, score_uses
from jprune.typing import Params, Scores

if TYPE_CHECKING:
  from jprune.graph import Stats

_TRIES = 12  # far more than any finite matrix needs: the last adds 10^4 times the mean


@public
def obs(params: Params, stats: Stats, damping: float = 0.01) -> Scores:
  r"""How much the output changes without a weight when the other weights are adjusted.

  .. math:: s_{ij} = \frac{W_{ij}^2}{[H^{-1}]_{ii}}, \qquad
     H = \frac{1}{n} X^\top X + \text{damping} \cdot \overline{\operatorname{diag}} \, I

  In units of the output's mean square (or of that over one power of two for all leaves, where
  float32 could not hold it): without damping it is exactly what the mean squared error
  of :math:`XW` grows by when the weight goes and those of the same output are fitted anew.
  With diagonal :math:`H` it is the square of :func:`wanda`, up to a factor. Inputs that are always
  zero score 0.

  A matrix that can't be factorised, as of fewer rows than inputs without damping, is damped ten
  times as much until it can.

  Args:
    params: tree of arrays.
    stats: a :class:`jprune.graph.Stats` of these params, captured with ``gram=True``.
    damping: what is added to the diagonal, as a fraction of its mean; at least 0.

  Returns:
    Scores, float32, structure and shapes of ``params``; ``None`` for leaves that ``stats`` doesn't
    hold.

  Raises:
    ValueError: if there is no leaf, ``damping`` is negative or not finite, or ``stats`` holds none
      of the leaves, is of leaves of other shapes, of no row, or without Gram matrices;
      if scores of two leaves are 2^200 apart.
    TypeError: if ``stats`` isn't a :class:`jprune.graph.Stats`, ``damping`` isn't a number, or a
      leaf is a shape struct.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> params = {'w': jnp.ones((3, 2))}
    >>> x = jnp.array([[2.0, 2.0, 0.0], [0.0, 0.0, 2.0]])  # the first two are copies
    >>> _, stats = jprune.graph.capture(fn, params, x, gram=True)
    >>> [round(score, 4) for score in obs(params, stats)['w'][:, 0].tolist()]
    [0.0398, 0.0398, 2.02]

  References:
    Hassibi and Stork, Second order derivatives for network pruning: optimal brain surgeon,
    NeurIPS 1992; Frantar and Alistarh, SparseGPT, ICML 2023, arXiv:2301.00774
  """
  fraction = _checks.non_negative_number('obs', 'damping', damping)
  return score_uses('obs', params, stats, _score, fraction, degrees=(2, 2), gram=True)


def _score(w: jax.Array, moments: Any, power: jax.Array, damping: float) -> jax.Array:
  inverse = one_by_one(lambda gram: _inverse_diagonal(gram, damping), moments.gram)
  live = moments.second_moment != 0
  # rooted before it is squared, so that a small weight's square doesn't underflow
  root = jnp.sqrt(jnp.where(live, inverse, 1.0))[:, :, None]
  return raised(jnp.where(live[:, :, None], jnp.square(w / root), 0.0), power)


def _inverse_diagonal(gram: jax.Array, damping: float) -> jax.Array:
  """Diagonal of the inverse of a Gram matrix, ``(inputs, inputs)``, that is damped enough."""
  diagonal = jnp.diagonal(gram)
  mean = jnp.mean(diagonal)
  scale = jnp.where(mean == 0, 1.0, mean)
  identity = jnp.eye(gram.shape[0], dtype=jnp.float32)
  dead = jnp.diag((diagonal == 0).astype(jnp.float32))  # does not touch the other inputs

  def attempt(amount: jax.Array) -> jax.Array:
    factor = lax.linalg.cholesky(gram / scale + dead + amount * identity)
    return jnp.sum(jnp.square(solve_triangular(factor, identity, lower=True)), axis=0)

  def failed(state: Any) -> jax.Array:
    tries, _, found = state
    return (tries < _TRIES) & ~jnp.all(jnp.isfinite(found))

  def more(state: Any) -> Any:
    tries, amount, _ = state
    amount = jnp.maximum(10 * amount, 1e-6)
    return tries + 1, amount, attempt(amount)

  first = jnp.float32(damping)
  _, _, found = lax.while_loop(failed, more, (jnp.int32(1), first, attempt(first)))
  return found / scale
