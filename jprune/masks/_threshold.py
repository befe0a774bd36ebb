"""Masks without a count: by a threshold on the scores, of the zeros there are, or by chance."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jprune import _checks, tree
from jprune._entry import public
from jprune.masks import _errors
from jprune.masks._auto import following
from jprune.masks._leaves import scored
from jprune.masks._patterns import Unstructured
from jprune.masks._selection import keys as _keys
from jprune.tree._along import by_leaf_for
from jprune.tree._selected import selected_for
from jprune.typing import Masks, Params, Scores, Where


@public
def threshold(scores: Scores, thresholds: Any) -> Masks:
  """Keeps the weights whose score reaches the threshold.

  Args:
    scores: tree of floating arrays, higher = keep; ``None`` leaves get ``None``.
    thresholds: a number, a tree with the structure of the scores (``None`` = stays dense), or a
      dict from leaf path to number.

  Returns:
    Bool masks, ``scores >= threshold``, compared in the scores' dtype.

  Raises:
    ValueError: if structures differ, a threshold is NaN, or a concrete score is NaN.
    TypeError: if a leaf is not floating or a threshold is not a number.

  Examples:
    >>> threshold({'w': jnp.array([0.1, 0.5, 0.9])}, 0.5)['w']
    Array([False,  True,  True], dtype=bool)
  """
  values = thresholds_of(scores, thresholds)
  leaves, treedef = scored('threshold', scores, Unstructured())
  out = [
    None if x is None or t is None else x >= jnp.asarray(t, x.dtype) for x, t in zip(leaves, values)
  ]
  return treedef.unflatten(out)


def thresholds_of(scores: Scores, thresholds: Any) -> list[Any]:
  """A checked threshold, or ``None``, for each leaf of the scores, ``None`` leaves included."""
  paths, leaves, treedef = tree.flatten(scores, is_leaf=lambda leaf: leaf is None)
  stand_in = treedef.unflatten(range(len(leaves)))
  values = by_leaf_for('threshold', 'thresholds', stand_in, thresholds, 'scores')
  for path, value in zip(paths, values):
    if value is not None:
      _errors.check_threshold('threshold', value, path)
  return values


@public
def from_zeros(params: Params, *, where: Where = None) -> Masks:
  """The masks of weights that are pruned already, by another tool or long ago.

  For :func:`jprune.keep_pruned`, or as ``masks=`` of a further round.

  Args:
    params: tree of arrays.
    where: selects leaves, as for :func:`jprune.prune`; those left out stay dense, so that a bias
      that is zero at first is not masked for ever.

  Returns:
    Bool masks, ``params != 0`` (both zeros are pruned, NaN isn't): all ``True`` of a selected leaf
    without zeros, all ``False`` of one that holds nothing else; ``None`` for leaves that are not
    selected.

  Raises:
    ValueError: if nothing is selected.
    TypeError: if a leaf has no values, as shape structs.

  Examples:
    >>> params = {'kernel': jnp.array([[0.0, 2.0], [3.0, 0.0]]), 'bias': jnp.zeros(2)}
    >>> from_zeros(params)
    {'bias': None, 'kernel': Array([[False,  True], [ True, False]], dtype=bool)}
  """
  chosen = selected_for('from_zeros', params, where)
  paths, leaves, treedef = tree.flatten(params)
  for path, leaf, yes in zip(paths, leaves, chosen):
    if yes:
      _checks.check_values('from_zeros', path, leaf)
  arrays = [jnp.asarray(leaf) if yes else None for leaf, yes in zip(leaves, chosen)]
  return treedef.unflatten([None if x is None else _nonzero(x) for x in arrays])


def _nonzero(x: jax.Array) -> jax.Array:
  zero = jnp.zeros((), x.dtype)
  if jnp.issubdtype(x.dtype, jnp.floating):  # by the bits: a comparison may flush denormals
    x, zero = _keys.keys(x), _keys.keys(zero)
  return x != zero


@public
def bernoulli(params: Params, rate: Any, *, key: jax.Array, where: Where = None) -> Masks:
  """Prunes each weight with probability ``rate``, independently.

  The number of zeros is random; for an exact number use the scorer
  :func:`jprune.scores.random`. Each leaf draws from its own key, split off in tree order.

  Args:
    params: tree of arrays.
    rate: probability in [0, 1] of being pruned: a number, a tree with the structure of the
      params, or a dict from leaf path to number (``None`` or left out = stays dense).
    key: a typed random key.
    where: selects leaves, as for :func:`jprune.prune`.

  Returns:
    Bool masks; ``None`` for leaves that are not selected.

  Raises:
    ValueError: if a rate is outside [0, 1], or nothing is selected.
    TypeError: if the key is no typed key.

  Examples:
    >>> masks = bernoulli({'w': jnp.ones((100, 100))}, 0.5, key=jax.random.key(0))
    >>> float(masks['w'].mean().round(2))
    0.5
  """
  _checks.check_key('bernoulli', key)
  chosen = selected_for('bernoulli', params, where)
  paths, leaves, treedef = tree.flatten(params)
  rates = by_leaf_for('bernoulli', 'rate', params, rate)
  for path, value in zip(paths, rates):
    if value is not None:
      _checks.check_fraction('bernoulli', 'rate', value, path)
  rates = [value if value is None or tree.is_traced(value) else float(value) for value in rates]
  keys = jax.random.split(key, len(leaves))
  out = [
    _drawn(k, leaf, 1.0 - value) if yes and value is not None else None
    for k, leaf, value, yes in zip(keys, leaves, rates, chosen)
  ]
  return treedef.unflatten(out)


def _drawn(key: jax.Array, leaf: Any, keep: Any) -> jax.Array:
  impl = jax.random.key_impl(key)  # keys have a mesh in their type too; their data need not

  def draw(xs: Any, data: jax.Array) -> list[jax.Array]:
    key = jax.random.wrap_key_data(data, impl=impl)
    return [jax.random.bernoulli(key, keep, x.shape) for x in xs]

  data = jax.random.key_data(key)
  return following(draw, [leaf], data)[0] if isinstance(leaf, jax.Array) else draw([leaf], data)[0]
