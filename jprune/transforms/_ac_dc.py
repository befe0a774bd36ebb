"""Dense and compressed phases in turn."""

from __future__ import annotations

from typing import Any, Unpack

import jax
import optax

from jprune import _checks
from jprune.transforms import _errors
from jprune.transforms._method import Method, Step, each
from jprune.transforms._sparse_training import Settings, checked, names_first, sparse_training
from jprune.typing import ByPath, Schedule


@names_first
def ac_dc(
  inner: optax.GradientTransformation,
  sparsity: float | Schedule,
  *,
  every: int,
  begin: int,
  end: int,
  key: jax.Array | None = None,
  **settings: Unpack[Settings],
) -> optax.GradientTransformationExtraArgs:
  r"""Alternating compressed and decompressed training: one run gives a sparse and a dense model.

  Training is dense up to step ``begin``. From then on phases of ``every`` steps take turns: a
  compressed one, at the start of which the best weights are chosen and the others become zero, and
  a dense one, in which those start from zero. The last phase, from ``end`` on, is compressed.
  Moments of the inner optimizer start afresh where weights go or come.

  Args:
    inner: an optimizer.
    sparsity: of compressed phases: a fraction of zeros in [0, 1], or a schedule of it.
    every: steps in a phase.
    begin: the step at which the first compressed phase starts: a multiple of ``every``.
    end: the step at which the last one starts, if there isn't one then that goes on; later than
      ``begin``. A dense phase should end there: it is as long as others where ``end - begin`` is
      an even multiple of ``every``.
    key: a typed random key, for scorers that draw.
    **settings: as for :func:`sparse_training`.

  Returns:
    An optimizer with a :class:`SparseState`. At the end of a dense phase the params are the dense
    model.

  Raises:
    ValueError: for what is no sparsity or no step, a ``begin`` that is no multiple of ``every``, or
      an ``end`` that is not after it; at ``init``, for leaves that can't be pruned so.
    TypeError: for an argument of another kind.

  Examples:
    >>> tx = ac_dc(optax.sgd(0.1), 0.5, every=2, begin=2, end=6)
    >>> params = {'kernel': jnp.array([[1.0, -3.0], [2.0, 0.5]])}
    >>> state = tx.init(params)
    >>> for count in range(8):
    ...   updates, state = tx.update(params, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   print(count, int(jnp.sum(jprune.transforms.masks_of(state)['kernel'])))
    0 4
    1 4
    2 2
    3 2
    4 4
    5 4
    6 2
    7 2

  References:
    Peste et al., AC/DC: alternating compressed/decompressed training of deep neural networks,
    NeurIPS 2021, arXiv:2106.12379, algorithm 1
  """
  _checks.check_positive_int('ac_dc', 'every', every)
  _checks.check_step('ac_dc', 'begin', begin)
  _checks.check_step('ac_dc', 'end', end)
  _checks.check_later('ac_dc', 'end', end, begin)
  if begin % every:
    raise _errors.not_a_multiple('ac_dc', 'begin', begin, every)

  def change(step: Step) -> tuple[ByPath, Any]:
    odd = (step.count - begin) // every % 2 == 1
    dense = (step.count < begin) | (odd & (step.count < end))
    # a compressed phase that is under way at `end` keeps its weights
    best = step.best(step.scores(), among=step.masks)
    return each(lambda mask: mask | dense, best), step.memory

  method = Method('ac_dc', change, regrows=True)
  return sparse_training(
    method, inner, sparsity, every=every, end=end, key=key, **checked('ac_dc', settings)
  )
