"""Exactly k weights pruned: leaf by leaf, over all leaves, or row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax

from jprune import _checks, tree
from jprune._entry import public
from jprune._roles import Roles
from jprune.masks import _caps
from jprune.masks._auto import following
from jprune.masks._forms import in_form, rows
from jprune.masks._leaves import kept, kept_each, scored, sparsities_of
from jprune.masks._n_of_m import n_of_m_leaf
from jprune.masks._pack import PackedMask, unpack_leaf
from jprune.masks._patterns import NOfM, Unstructured, unit_scores, units_shape
from jprune.masks._selection import keys as _keys
from jprune.masks._selection import rows as _rows
from jprune.masks._selection import select as _select
from jprune.typing import Masks, Pattern, Scores, Sparsities


@public
def top_k(
  scores: Scores,
  sparsities: Sparsities = None,
  *,
  pattern: Pattern | NOfM = Unstructured(),
  roles: Roles | None = None,
) -> Masks:
  """Prunes exactly ``round(sparsity * units)`` of the lowest-scoring units of each leaf.

  A unit is what the pattern says; with the default, a weight. Among equal scores the lowest flat
  index is kept first.

  Args:
    scores: tree of floating arrays, higher = keep; ``None`` leaves get ``None``.
    sparsities: fraction of zeros in [0, 1]: a number (a traced one counts
      as the float32 nearest to it), a tree with the
      structure of the scores (``None`` = stays dense), or a dict from leaf path to number. Not
      for :class:`NOfM`, which has its own.
    pattern: which weights live and die together.
    roles: what a function does with each leaf, from :func:`jprune.graph.roles`. The layers of a
      stack, its experts and what is vmapped over then are leaves of their own, and patterns see
      ``(window, inputs, outputs)``.

  Returns:
    Bool masks with the structure and shapes of ``scores``.

  Raises:
    ValueError: if a sparsity is outside [0, 1], the structures differ, the pattern doesn't fit
      a shape, or a concrete score is NaN (traced NaN rank lowest).
    TypeError: if a leaf is not floating.

  Examples:
    >>> scores = {'a': jnp.array([1.0, 4.0, 3.0, 2.0]), 'b': jnp.ones(4)}
    >>> top_k(scores, 0.5)['a']
    Array([False,  True,  True, False], dtype=bool)
    >>> top_k(scores, {'b': 0.25})
    {'a': None, 'b': Array([ True,  True,  True, False], dtype=bool)}
  """
  chosen = lambda scores, shares, pattern: select('top_k', scores, shares, pattern)
  return in_form('top_k', scores, sparsities, pattern, roles, chosen)


@public
def top_k_global(
  scores: Scores,
  sparsity: float,
  *,
  pattern: Pattern = Unstructured(),
  roles: Roles | None = None,
) -> Masks:
  """Prunes exactly ``round(sparsity * units)`` of the lowest-scoring units of all leaves.

  One threshold over all leaves; among equal scores the first leaf in tree order, and in it the
  lowest flat index, is kept first. Nothing is concatenated: counts add up over leaves, exactly
  at any number of weights, also past 2**31.

  Args:
    scores: tree of floating arrays, higher = keep; ``None`` leaves get ``None``.
    sparsity: fraction of zeros over all scored leaves, in [0, 1].
    pattern: which weights live and die together; not :class:`NOfM`, where nothing is left to
      choose.
    roles: as for :func:`top_k`.

  Returns:
    Bool masks with the structure and shapes of ``scores``.

  Raises:
    ValueError: as for :func:`top_k`.
    TypeError: if a leaf is not floating.

  Examples:
    >>> scores = {'a': jnp.array([0.1, 0.9, 0.2, 0.5]), 'b': jnp.array([0.7, 0.8])}
    >>> top_k_global(scores, 0.5)
    {'a': Array([False,  True, False, False], dtype=bool), 'b': Array([ True,  True], dtype=bool)}
  """
  chosen = lambda scores, _, pattern: select_global('top_k_global', scores, sparsity, pattern)
  return in_form('top_k_global', scores, None, pattern, roles, chosen)


@public
def top_k_rows(
  scores: Scores,
  sparsities: Sparsities,
  *,
  axis: int | None = None,
  roles: Roles | None = None,
) -> Masks:
  """Prunes exactly ``round(sparsity * size)`` of the weights that feed each output.

  Each output of a kernel keeps the same number of weights; with ``axis``, each row along it.
  Among equal scores of a row the lowest index is kept first.

  Args:
    scores: tree of floating arrays, higher = keep; ``None`` leaves get ``None``.
    sparsities: as for :func:`top_k`.
    axis: along which weights compete; all other axes index rows. ``None`` for inputs and window of
      a kernel, as roles or names tell; a matrix of any other name has inputs, then outputs.
    roles: what a function does with each leaf, from :func:`jprune.graph.roles`.

  Returns:
    Bool masks with the structure and shapes of ``scores``.

  Raises:
    ValueError: as for :func:`top_k`, if a leaf hasn't the axis, or nothing tells its inputs.
    TypeError: if a leaf is not floating.

  Examples:
    >>> scores = {'w': jnp.array([[1.0, 5.0], [2.0, 4.0], [3.0, 6.0]])}
    >>> top_k_rows(scores, 1 / 3)['w']
    Array([[False,  True],
           [ True, False],
           [ True,  True]], dtype=bool)
  """
  if sparsities is None:
    raise _checks.no_sparsity('top_k_rows')
  if axis is None:
    scored('top_k_rows', scores, Unstructured())
    forms = rows('top_k_rows', scores, roles)
    shares = forms.shares(sparsities_of('top_k_rows', scores, sparsities))
    rows_of = lambda x: x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    parts = forms.split(scores)
    masks = _along('top_k_rows', jax.tree.map(rows_of, parts), shares, -2)
    return forms.join(jax.tree.map(lambda mask, x: mask.reshape(x.shape), masks, parts))
  _checks.check_int('top_k_rows', 'axis', axis)
  return _along('top_k_rows', scores, sparsities, axis)


def _along(function: str, scores: Scores, sparsities: Sparsities, axis: int) -> Masks:
  """Masks of rows along an axis that all leaves have."""
  values = sparsities_of(function, scores, sparsities)
  leaves, treedef = scored(function, scores, _Axis(axis))
  ks = [
    None if x is None or s is None else kept(s, [x.shape[axis]]) for x, s in zip(leaves, values)
  ]
  row = lambda xs, k: [_rows.largest(xs[0], k, axis)]
  out = [None if k is None else following(row, [x], k)[0] for x, k in zip(leaves, ks)]
  return treedef.unflatten(out)


def select(
  function: str,
  scores: Scores,
  sparsities: Sparsities,
  pattern: Any,
  earlier: Masks = None,
  caps: _caps.Caps | None = None,
  places: Any = None,
  first: Masks = None,
) -> Masks:
  """:func:`top_k` under the caller's name; what ``earlier`` masks pruned stays pruned.

  A leaf that ``caps`` (of all leaves, ``None`` included) hold keeps more than its sparsity says.
  ``places`` are how many units of each leaf that has a sparsity are kept, instead of what the
  sparsities make of them: wide counts ``(leaves, 2)``, or of an N:M pattern the number n. What
  ``first`` keeps, comes before all others.
  """
  if isinstance(pattern, NOfM):
    if sparsities is not None:
      raise _checks.pattern_has_sparsity(function, pattern, sparsities)
    leaves, treedef = scored(function, scores, pattern)
    leaves, before = _marked(leaves, earlier, first)
    chosen = [i for i, x in enumerate(leaves) if x is not None]
    masks = [n_of_m_leaf(leaves[i], pattern, places) for i in chosen]
    return treedef.unflatten(_nested(_among(before, chosen, masks), before))
  if sparsities is None:
    raise _checks.no_sparsity(function)
  values = sparsities_of(function, scores, sparsities)
  leaves, treedef = scored(function, scores, pattern)
  chosen = [i for i, (x, s) in enumerate(zip(leaves, values)) if x is not None and s is not None]
  units = [math.prod(units_shape(pattern, leaves[i])) for i in chosen]
  ks = kept_each([values[i] for i in chosen], units) if places is None else places
  dtypes = [leaves[i].dtype for i in chosen]
  leaves, before = _marked(leaves, earlier, first)

  def run(xs: Sequence[jax.Array], ks: Sequence[Any]) -> list[jax.Array]:
    units = [unit_scores(pattern, *each) for each in zip(xs, dtypes)]
    if caps is not None:
      units, ks = _caps.of_each(_of_chosen(caps, chosen), units, ks)
    masks = _select.largest(units, ks)
    return [pattern.expand(mask, x.shape) for mask, x in zip(masks, xs)]

  masks = following(run, [leaves[i] for i in chosen], ks)
  return treedef.unflatten(_nested(_among(before, chosen, masks), before))


def select_global(
  function: str,
  scores: Scores,
  sparsity: Any,
  pattern: Any,
  earlier: Masks = None,
  caps: _caps.Caps | None = None,
  places: Any = None,
  first: Masks = None,
) -> Masks:
  """:func:`top_k_global` under the caller's name; all else as for :func:`select`.

  ``places`` are how many units are kept of all leaves, a wide count.
  """
  if isinstance(pattern, NOfM):
    raise _checks.pattern_not_global(function, pattern)
  if places is None:
    _checks.check_fraction(function, 'sparsity', sparsity)
  leaves, treedef = scored(function, scores, pattern)
  chosen = [i for i, x in enumerate(leaves) if x is not None]
  sizes = [math.prod(units_shape(pattern, leaves[i])) for i in chosen]
  k = kept(sparsity, sizes) if places is None else places
  if any(each is not None for each in (earlier, caps, first)):  # one kind of bits is compared
    leaves = list(leaves)
    for i, x in zip(chosen, _select.of_one_dtype([leaves[i] for i in chosen])):
      leaves[i] = x
  dtypes = [leaves[i].dtype for i in chosen]
  leaves, before = _marked(leaves, earlier, first)

  def run(xs: Sequence[jax.Array], k: Any) -> list[jax.Array]:
    units = [unit_scores(pattern, *each) for each in zip(xs, dtypes)]
    if caps is not None:
      units, k = _caps.together(function, _of_chosen(caps, chosen), units, k, sparsity)
    masks = _select.largest_together(units, k)
    return [pattern.expand(mask, x.shape) for mask, x in zip(masks, xs)]

  masks = following(run, [leaves[i] for i in chosen], k)
  return treedef.unflatten(_nested(_among(before, chosen, masks), before))


def _of_chosen(caps: _caps.Caps, chosen: Sequence[int]) -> _caps.Caps:
  return caps._replace(inputs=tuple(caps.inputs[i] for i in chosen))


def _marked(
  leaves: Sequence[Any], earlier: Masks, first: Masks = None
) -> tuple[list[Any], list[Any]]:
  """Scores as bits, marked where an earlier mask pruned, so that those rank last; the masks.

  What ``first`` keeps ranks before all others. Both have the structure of the scores, ``None``
  where there is no mask.
  """
  before, front = _unpacked(earlier, len(leaves)), _unpacked(first, len(leaves))
  if earlier is not None:
    leaves = [
      None if x is None else _keys.marked(x, mask) for x, mask in zip(leaves, before, strict=True)
    ]
  if first is not None:
    leaves = [x if one is None else _keys.raised(x, one) for x, one in zip(leaves, front)]
  return list(leaves), before


def _unpacked(masks: Masks, count: int) -> list[Any]:
  """So many leaves of masks, unpacked; ``None`` for each where there are no masks."""
  if masks is None:
    return [None] * count
  is_leaf = lambda leaf: leaf is None or isinstance(leaf, PackedMask)
  return [None if each is None else unpack_leaf(each) for each in tree.flatten(masks, is_leaf)[1]]


def _among(before: Sequence[Any], chosen: Sequence[int], masks: Sequence[Any]) -> list[Any]:
  """The new masks at the chosen leaves; the others keep what they had."""
  out = list(before)
  for i, mask in zip(chosen, masks):
    out[i] = mask
  return out


def _nested(masks: Sequence[Any], before: Sequence[Any]) -> list[Any]:
  """A leaf that is sparser already than asked stays as it is: nothing comes back."""
  return [mask if mask is None or old is None else mask & old for mask, old in zip(masks, before)]


class _Axis:
  """Only the check of a pattern: that a leaf has the axis."""

  def __init__(self, axis: int):
    self.axis = axis

  def check(self, function: str, path: str, shape: tuple[int, ...]) -> None:
    _checks.check_axis(function, self.axis, path, shape)
