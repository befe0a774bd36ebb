"""Zeroes the updates of pruned weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jprune.masks._pack import unpack_leaf
from jprune.transforms._mask_state import along_masks, held_masks, is_end, is_hole, laid_out_as
from jprune.transforms._transformation import transformation
from jprune.typing import Masks


class MaskUpdatesState(NamedTuple):
  """State of :func:`mask_updates`.

  Attributes:
    masks: a copy of the masks, structure of the params; each leaf bool of the param's shape,
      packed, or ``None``.

  Examples:
    >>> state = mask_updates({'w': jnp.array([True, False])}).init({'w': jnp.ones(2)})
    >>> isinstance(state, MaskUpdatesState), state.masks['w']
    (True, Array([ True, False], dtype=bool))
  """

  masks: Masks


def mask_updates(masks: Masks) -> optax.GradientTransformationExtraArgs:
  r"""Zeroes the updates (or gradients) of pruned weights.

  .. math:: u' = m\,?\,u : 0

  For the head of a chain, so that what an optimizer gathers from the gradients (moments, norms,
  clipping) sees the kept weights only. It doesn't look at the params, so pruned weights stay at
  zero only if they are zero already and nothing after it moves them; :func:`keep_pruned` sees to
  both, and the two go together.

  Args:
    masks: tree with the structure of the params; leaves bool (``True`` = keep) or packed, of the
      param's shape, or ``None``.

  Returns:
    A gradient transformation whose state is a :class:`MaskUpdatesState`.

  Raises:
    ValueError: by ``init``, if structure or shapes differ from the params'; by ``update``, if
      the updates' structure does.
    TypeError: by ``init``, if a mask is not bool, or prunes a param that is not floating.

  Examples:
    >>> tx = optax.chain(mask_updates({'w': jnp.array([True, False])}), optax.sgd(1.0))
    >>> state = tx.init({'w': jnp.array([3.0, 0.0])})
    >>> tx.update({'w': jnp.array([0.5, jnp.nan])}, state)[0]
    {'w': Array([-0.5, -0. ], dtype=float32)}
  """

  def init_fn(params):
    return MaskUpdatesState(held_masks('mask_updates', params, masks))

  def update_fn(updates, state, params=None, **extra_args):
    del params, extra_args
    found = jax.tree.leaves(state.masks, is_leaf=is_end)
    leaves, treedef = along_masks('mask_updates', 'updates', state.masks, updates)
    return treedef.unflatten(map(_masked, leaves, found)), state

  return transformation(init_fn, update_fn)


def _masked(update: Any, mask: Any) -> Any:
  if mask is None or update is None or is_hole(update):
    return update
  update = jnp.asarray(update)
  mask = laid_out_as(update, unpack_leaf(mask))
  return jnp.where(mask, update, jnp.zeros((), update.dtype))
