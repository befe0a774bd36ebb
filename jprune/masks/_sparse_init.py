"""Initial weights for units that have lost most of their inputs."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from jprune import _checks, tree
from jprune._entry import public
from jprune._roles import Roles
from jprune.masks import _errors
from jprune.masks._apply import aligned, zero_where_pruned
from jprune.masks._forms import rows
from jprune.tree._named_roles import roles_or_names
from jprune.typing import Masks, Params


@public
def sparse_init(params: Params, masks: Masks, roles: Roles | None = None) -> Params:
  r"""Fresh params under masks, scaled by how many inputs each unit has left.

  .. math:: \theta'_{ij} = m_{ij} \, \theta_{ij} \sqrt{n / \textstyle\sum_k m_{kj}}

  The usual initialisers (He, LeCun) draw weights with a variance of a constant over the fan-in
  :math:`n`, which keeps the signal as large from layer to layer. Masks take most of the fan-in
  away, and the signal with it. Here each output has the variance of its own fan-in: of the weights,
  window included, by which it is reached. It holds for every initialiser whose variance is
  proportional to 1 over the fan-in.

  Args:
    params: as initialised, dense.
    masks: as for :func:`jprune.apply`.
    roles: what a function does with each leaf, from :func:`jprune.graph.roles`: kernels are scaled,
      by their inputs and outputs, each layer of a stack by itself. By default names tell, as for
      :func:`jprune.prune`: floating matrices, but no biases and norms, which are only masked.

  Returns:
    Params of the same structure, shapes and dtypes, exactly 0.0 where pruned. A unit that has lost
    all of its inputs has zeros; one that lost none has what it had.

  Raises:
    ValueError: if structure or shapes differ, roles are of other leaves, or nothing tells which
      axes of a leaf are its inputs.
    TypeError: if a mask is not bool.

  Examples:
    >>> params = {'kernel': jnp.ones((4, 3)), 'bias': jnp.zeros(3)}
    >>> kept = jnp.array([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]], bool)
    >>> sparse_init(params, {'kernel': kept, 'bias': None})['kernel']
    Array([[1., 2., 0.],
           [1., 0., 0.],
           [1., 0., 0.],
           [1., 0., 0.]], dtype=float32)

  References:
    Evci et al., Gradient flow in sparse neural networks and how lottery tickets win, AAAI 2022,
    arXiv:2010.03533
  """
  paths, leaves, treedef = tree.flatten(params)
  found = aligned('sparse_init', params, masks)
  shapes = tree.shapes(params)
  known = roles_or_names('sparse_init', shapes, roles)
  scaled = []
  for path, leaf, mask, left in zip(paths, leaves, found, tree.skipped(params, roles)):
    _checks.check_values('sparse_init', path, leaf)
    has_inputs = mask is not None and left is None and tree.size(leaf) > 0
    role = known[path]
    if has_inputs and (role is None or not role.known):
      raise _errors.inputs_not_known('sparse_init', path, leaf)
    scaled.append(jnp.asarray(leaf) if has_inputs else None)
  forms = rows('sparse_init', treedef.unflatten(scaled), roles, shapes)
  theirs = [None if leaf is None else mask for leaf, mask in zip(scaled, found)]
  with forms.automatic():
    parts = [forms.split(treedef.unflatten(each)) for each in (scaled, theirs)]
    values = jax.tree.leaves(forms.join(jax.tree.map(_scaled, *parts)), is_leaf=_is_none)
  return treedef.unflatten(
    [
      zero_where_pruned(leaf, mask) if value is None else value
      for leaf, mask, value in zip(leaves, found, values)
    ]
  )


def _is_none(x: Any) -> bool:
  return x is None


def _scaled(w: jax.Array, mask: jax.Array) -> jax.Array:
  """One matrix ``(*window, inputs, outputs)`` times the square root of what its columns lost."""
  inputs = tuple(range(w.ndim - 1))
  wide = w.dtype if w.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
  real = jnp.finfo(wide).dtype
  kept = jnp.maximum(jnp.sum(mask, axis=inputs, keepdims=True, dtype=jnp.int32), 1)
  fan_in = jnp.asarray(math.prod(w.shape[:-1]), real)
  factor = jnp.sqrt(fan_in / kept.astype(real)).astype(wide)
  return zero_where_pruned((w.astype(wide) * factor).astype(w.dtype), mask)
