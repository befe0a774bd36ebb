"""Keeps pruned weights at exactly zero, whatever the optimizer before it does."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jprune import tree
from jprune.masks._pack import unpack_leaf
from jprune.transforms import _errors
from jprune.transforms._mask_state import (
  along_masks,
  held_masks,
  is_end,
  is_hole,
  kept_update,
  laid_out_as,
)
from jprune.transforms._transformation import transformation
from jprune.typing import Masks, Params


class KeepPrunedState(NamedTuple):
  """State of :func:`keep_pruned`.

  Attributes:
    masks: a copy of the masks, structure of the params; each leaf bool of the param's shape,
      packed, or ``None``.

  Examples:
    >>> params = {'w': jnp.array([1.0, 2.0])}
    >>> tx = optax.chain(optax.adam(1e-3), keep_pruned({'w': jnp.array([True, False])}))
    >>> state = tx.init(params)
    >>> isinstance(state[-1], KeepPrunedState), optax.tree.get(state, 'masks')['w']
    (True, Array([ True, False], dtype=bool))
  """

  masks: Masks


def keep_pruned(masks: Masks) -> optax.GradientTransformationExtraArgs:
  r"""Makes pruned weights exactly ``0.0`` at every step. The last transformation in a chain.

  .. math:: u' = m\,?\,u : -p

  After ``optax.apply_updates`` a pruned weight is ``p + (-p)``, which is ``+0.0`` for every
  finite ``p``, and kept weights move as they would have moved without it: an update of NaN or
  infinity for a pruned weight, weight decay, momentum gathered before pruning, noise have no
  effect there. Where the updates' dtype can't hold ``-p`` exactly (bfloat16 updates of float32
  params), the updates come out in one that can.

  It has to see what is really added to the params: put it outside of wrappers that hold updates
  back or scale them, ``optax.chain(optax.MultiSteps(tx, 4).gradient_transformation(),
  keep_pruned(masks))``. Inside of ``optax.MultiSteps`` or ``optax.apply_if_finite`` pruned
  weights stay at zero if they start there, as they do after :func:`jprune.apply`. What an
  optimizer keeps beside the params is not touched: ``optax.contrib.schedule_free`` evaluates
  params of its own, which are zero too if they start there and :func:`mask_updates` comes first.

  Args:
    masks: tree with the structure of the params; leaves bool (``True`` = keep) or packed, of the
      param's shape, or ``None`` (= this leaf stays dense). The state holds a copy, so that a
      donated state doesn't delete the caller's masks; it is laid out as the masks are if they
      are committed to devices, else as the params are.

  Returns:
    A gradient transformation whose state is a :class:`KeepPrunedState`;
    ``optax.tree.get(state, 'masks')`` finds the masks, and ``optax.tree.set(state, masks=masks)``
    puts others in their place, for which nothing is compiled anew (of a state that is donated, set
    a copy). ``update`` needs ``params``.

  Raises:
    ValueError: by ``init``, if structure or shapes differ from the params', or a pruned weight
      is infinite or NaN (nothing can be added to it that gives zero; looked for outside of
      ``jit`` only), or it is compiled while the masks span processes: call it outside of
      ``jax.jit``, or hand masks over, ``jax.jit(lambda p, m: keep_pruned(m).init(p))(params,
      masks)``; by ``update``, if ``params`` is missing, or a structure differs.
    TypeError: by ``init``, if a mask is not bool, or prunes a param that is not floating.

  Examples:
    >>> params = {'w': jnp.array([1.0, 2.0]), 'b': jnp.array(0.5)}
    >>> masks = {'w': jnp.array([True, False]), 'b': None}
    >>> tx = optax.chain(optax.sgd(0.1), keep_pruned(masks))
    >>> state = tx.init(params)
    >>> updates, state = tx.update(params, state, params)
    >>> optax.apply_updates(params, updates)['w']
    Array([0.9, 0. ], dtype=float32)
  """

  def init_fn(params):
    held = held_masks('keep_pruned', params, masks)
    _check_finite_where_pruned(params, held)
    return KeepPrunedState(held)

  def update_fn(updates, state, params=None, **extra_args):
    del extra_args
    if params is None:
      raise _errors.missing_params('keep_pruned')
    found = jax.tree.leaves(state.masks, is_leaf=is_end)
    values, _ = along_masks('keep_pruned', 'params', state.masks, params)
    leaves, treedef = along_masks('keep_pruned', 'updates', state.masks, updates)
    return treedef.unflatten(map(kept_update, leaves, found, values)), state

  return transformation(init_fn, update_fn)


def _check_finite_where_pruned(params: Params, masks: Masks) -> None:
  """Looks at concrete params only."""
  paths, leaves, _ = tree.flatten(params, is_end)
  for path, leaf, mask in zip(paths, leaves, jax.tree.leaves(masks, is_leaf=is_end), strict=True):
    if mask is None or is_hole(mask) or tree.is_traced(leaf, *jax.tree.leaves(mask)):
      continue
    leaf = jnp.asarray(leaf)
    bad = ~jnp.isfinite(leaf) & ~laid_out_as(leaf, unpack_leaf(mask))
    if jnp.any(bad):
      raise _errors.not_finite_where_pruned('keep_pruned', path, int(jnp.sum(bad)))
