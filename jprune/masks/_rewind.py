"""Back to the weights of an earlier checkpoint, under the masks of a later one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jprune import _checks, tree
from jprune._entry import check_dtypes, public
from jprune.masks import _errors
from jprune.masks._apply import aligned, zero_where_pruned
from jprune.tree._along import along_for
from jprune.typing import Masks, Params


@public
def rewind(params: Params, early_params: Params, masks: Masks) -> Params:
  r"""Weights of an early checkpoint where masks keep, exactly 0.0 where they prune.

  .. math:: \theta' = m \odot \theta_{early}

  What a lottery ticket starts from: masks are found in trained params, and training starts again
  from where it was after none, or a few, of its steps. All leaves go back, those without a mask
  too, such as biases and norms. Nothing that comes out is shared with what goes in, so a step that
  donates it leaves ``early_params`` alone, for the next round.

  Args:
    params: the trained params. They say where each array lies (on which devices of a mesh), and
      are what stays where ``early_params`` has ``None``.
    early_params: tree of the same structure, shapes and dtypes, NumPy arrays of a file included;
      ``None`` for leaves that are to stay as they were trained.
    masks: as for :func:`jprune.apply`.

  Returns:
    Params of the same structure, shapes and dtypes.

  Raises:
    ValueError: if a structure or a shape differs.
    TypeError: if a dtype does, or a mask is not bool.

  Examples:
    >>> early = {'kernel': jnp.array([1.0, 2.0]), 'bias': jnp.array([0.0])}
    >>> trained = {'kernel': jnp.array([0.1, 5.0]), 'bias': jnp.array([3.0])}
    >>> rewind(trained, early, jprune.prune(trained, 0.5, where=['kernel']))
    {'bias': Array([0.], dtype=float32), 'kernel': Array([0., 2.], dtype=float32)}

  References:
    Frankle et al., Linear mode connectivity and the lottery ticket hypothesis, ICML 2020,
    arXiv:1912.05671; Frankle and Carbin, The lottery ticket hypothesis, ICLR 2019, arXiv:1803.03635
  """
  check_dtypes('rewind', early_params, 'early_params')
  paths, leaves, treedef = tree.flatten(params)
  found = aligned('rewind', params, masks)
  early = along_for('rewind', 'early_params', params, early_params)
  for path, leaf, value in zip(paths, leaves, early):
    _checks.check_values('rewind', path, leaf)
    if value is not None:
      _checks.check_values('rewind', path, value, 'early_params')
      _checks.check_shape('rewind', 'early_params', path, value, jnp.shape(leaf))
      _errors.check_same_dtype('rewind', 'early_params', path, value, leaf)
  return treedef.unflatten(
    [
      _masked_copy(leaf if value is None else _beside(value, leaf), mask)
      for leaf, value, mask in zip(leaves, early, found)
    ]
  )


def _masked_copy(leaf: Any, mask: Any) -> Any:
  if mask is None:
    return jnp.array(leaf, copy=True)
  return zero_where_pruned(leaf, mask)


def _beside(value: Any, leaf: Any) -> Any:
  """The early value where the trained one lies, if that is somewhere in particular."""
  if tree.is_traced(value, leaf) or not getattr(leaf, 'committed', False):
    return value
  return jax.device_put(value, leaf.sharding)
