"""The state of sparse training."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax

from jprune.typing import Masks


class SparseState(NamedTuple):
  """State of all methods of sparse training.

  Attributes:
    count: calls of ``update`` so far, int32.
    masks: in force now: structure of the params; each leaf bool of the param's shape, packed, or
      ``None`` where a leaf is not pruned.
    inner: state of the inner optimizer.
    memory: what the method keeps beside its masks, in trees like the masks.
    dense: weights that live on behind their masks, in a tree like the masks, or ``()``.
    clock: when weights came back, or ``()`` where it makes no difference.
    kept: how many weights each leaf keeps, a row for each change: uint32 words
      ``(changes, leaves, 2)`` of ``high * 2**16 + low``.
    churn: weights that the last change took away or brought in, over all that could be: float32.
    key: data of a random key, or ``()``.

  Examples:
    >>> tx = jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=10)
    >>> params = {'kernel': jnp.array([[1.0, -3.0], [2.0, 0.5]])}
    >>> state = tx.init(params)
    >>> _, state = tx.update(params, state, params)
    >>> int(state.count), state.masks['kernel']
    (1, Array([[False,  True],
           [ True, False]], dtype=bool))
  """

  # A field hides tuple.count, as in optax's own states.
  count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
  masks: Masks
  inner: optax.OptState
  memory: Any
  dense: Any
  clock: Any
  kept: jax.Array
  churn: jax.Array
  key: Any = ()
