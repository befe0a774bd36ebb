"""N:M masks by counting who ranks before whom; no sort."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jprune import _checks
from jprune._entry import public
from jprune._roles import Roles
from jprune.masks import _errors
from jprune.masks._auto import following
from jprune.masks._forms import in_form
from jprune.masks._leaves import scored
from jprune.masks._patterns import NOfM, axis_of
from jprune.masks._selection import keys as _keys
from jprune.typing import Masks, Scores


@public
def n_of_m(
  scores: Scores,
  n: int,
  m: int,
  axis: int | None = None,
  *,
  pad: bool = False,
  roles: Roles | None = None,
) -> Masks:
  """Keeps the n best of every m consecutive weights along the inputs, or along an axis.

  Among equal scores the lower index is kept.

  Args:
    scores: tree of floating arrays; ``None`` leaves get ``None``.
    n: weights kept in each group, 1 to ``m``.
    m: size of a group.
    axis: along which groups lie; ``None`` for the inputs of a kernel, along which hardware wants
      its N:M, as roles or names tell (:class:`NOfM`).
    pad: where the axis doesn't divide, let the last group have fewer than ``m`` weights (it
      keeps ``n`` of them, or all it has) instead of raising an error.
    roles: what a function does with each leaf, from :func:`jprune.graph.roles`.

  Returns:
    Bool masks.

  Raises:
    ValueError: if ``n`` is not in 1..m, a leaf hasn't the axis or its size there is not a
      multiple of ``m``, or a concrete score is NaN.
    TypeError: if a leaf is not floating.

  Examples:
    >>> scores = {'w': jnp.array([[0.25], [1.33], [0.43], [0.11]])}
    >>> n_of_m(scores, 2, 4)['w'].ravel()
    Array([False,  True,  True, False], dtype=bool)

  References:
    Mishra et al., Accelerating sparse deep neural networks, 2021, arXiv:2104.08378
  """
  _errors.check_n_of_m('n_of_m', n, m)
  if axis is not None:
    _checks.check_int('n_of_m', 'axis', axis)

  def chosen(scores: Scores, _: Any, pattern: NOfM) -> Masks:
    leaves, treedef = scored('n_of_m', scores, pattern)
    return treedef.unflatten([None if x is None else n_of_m_leaf(x, pattern) for x in leaves])

  return in_form('n_of_m', scores, None, NOfM(n, m, axis, pad), roles, chosen)


def n_of_m_leaf(x: jax.Array, pattern: NOfM, n: Any = None) -> jax.Array:
  """One leaf of scores, or of their marked bits; compiled once for each shape.

  The number of weights that a group keeps is ``n``, if it is given, else the pattern's.
  """
  if x.size == 0:
    return jnp.zeros(x.shape, bool)
  return following(lambda xs, n: [_mask(xs[0], n, pattern)], [x], pattern.n if n is None else n)[0]


def _masked(x: jax.Array, n: Any, pattern: NOfM) -> jax.Array:
  m = pattern.m
  axis = axis_of(pattern, x.shape)
  size = x.shape[axis]
  missing = [(0, -size % m if i == axis else 0) for i in range(x.ndim)]
  if size % m:
    # padding comes last in its group: at NaN's rank it loses against all that is there
    x = _keys.marked(x)
    x = jnp.pad(x, missing, constant_values=_keys.mark(x.dtype))
  groups = x.reshape(*x.shape[:axis], -1, m, *x.shape[axis + 1 :])
  mask = _by_pairs(groups, n, axis + 1).reshape(x.shape)
  return jax.lax.slice_in_dim(mask, 0, size, axis=axis)


_mask = jax.jit(_masked, static_argnames=['pattern'])


def _by_pairs(groups: jax.Array, n: Any, axis: int) -> jax.Array:
  """Rank below ``n`` within a group: who is beaten by fewer than ``n`` others."""
  m = groups.shape[axis]
  members = [_keys.keys(jax.lax.index_in_dim(groups, i, axis, keepdims=False)) for i in range(m)]
  beaten: list[Any] = [jnp.zeros(members[0].shape, jnp.uint8) for _ in range(m)]
  for i in range(m):
    for j in range(i):
      first = members[j] >= members[i]  # of equal ones the lower index goes first
      beaten[i] = beaten[i] + first.astype(jnp.uint8)
      beaten[j] = beaten[j] + (~first).astype(jnp.uint8)
  return jnp.stack([each < n for each in beaten], axis)
