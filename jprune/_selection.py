"""From scores to masks as :func:`jprune.prune` does it: distribute, then select."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jprune import _checks, tree
from jprune._asked import Asked
from jprune._roles import Roles
from jprune.distributions._needs import needs_of
from jprune.masks import ChannelGroups, NOfM
from jprune.masks._caps import caps, floors
from jprune.masks._channels.groups import leaves_by_path
from jprune.masks._forms import Forms
from jprune.masks._leaves import kept_each, sparsities_of
from jprune.masks._patterns import units_shape
from jprune.masks._selection import wide as _wide
from jprune.masks._top_k import select, select_global
from jprune.tree._along import along_for
from jprune.typing import Masks, Params, Scores


def masks_by(
  function: str,
  params: Params,
  scored: Scores,
  sparsity: Any,
  asked: Asked,
  before: Masks = None,
  *,
  places: Any = None,
  first: Masks = None,
) -> Masks:
  """Masks at an overall sparsity.

  Args:
    function: who asks, for messages.
    params: tree of arrays.
    scored: scores along the params, ``None`` where a leaf is not selected; checked.
    sparsity: overall, checked; ``None`` where the pattern or the distribution has its own.
    asked: how to choose.
    before: masks of an earlier round along the params; what they pruned stays pruned.
    places: one of the rows of :func:`counts`, traced, instead of a sparsity.
    first: masks along the params; what they keep, comes before all other weights.
  """
  distribution, pattern, together = asked.distribution, asked.pattern, asked.together
  if isinstance(pattern, ChannelGroups):
    return _of_groups(function, scored, sparsity, asked, before, places, first)
  forms = _forms(function, params, scored, asked)
  if together and sparsity is None and places is None:
    raise _checks.no_sparsity(function)
  shares = sparsity
  if not (together or isinstance(pattern, NOfM)):
    each = [None if x is None else 0.0 for x in forms.leaves]
    if places is None:
      each = _shares(function, params, scored, sparsity, distribution, forms.roles)
    shares = forms.shares(each)
  if places is not None:
    places = _places(places, asked)
  apart = lambda masks: None if masks is None else forms.split(masks)
  with forms.automatic():
    parts, before, first = forms.split(scored), apart(before), apart(first)
    limits = asked.min_keep, asked.max_sparsity, asked.per_output
    bounds = caps(function, parts, forms.pattern, sparsity, *limits)
    choose = select_global if together else select
    return forms.join(choose(function, parts, shares, forms.pattern, before, bounds, places, first))


def counts(
  function: str, params: Params, scored: Scores, asked: Asked, final: float
) -> Callable[[float], np.ndarray]:
  """How many units of each part are kept, ints: from shapes, if need be from scores.

  Parts are leaves, or layers of a stack; of weights that compete together there is one number, of
  an N:M pattern the number n.

  Args:
    function: who asks, for messages.
    params: tree of arrays.
    scored: arrays of the shapes of the leaves that are pruned, ``None`` for the others; scores, if
      :func:`by_values`.
    asked: how to choose.
    final: the last sparsity there will be: with it a distribution that has its own sparsities
      reaches them, and before that the same part of each.

  Returns:
    From a sparsity, a number at hand, to the numbers; what all sparsities share is done before.
  """
  pattern = asked.pattern
  if isinstance(pattern, ChannelGroups):
    flat = leaves_by_path(scored)
    return lambda sparsity: pattern.counts(function, flat, sparsity, asked.roles)
  forms = _forms(function, params, scored, asked)
  paths, parts, _ = tree.flatten(jax.eval_shape(forms.split, scored))
  for path, part in zip(paths, parts):
    forms.pattern.check(function, path, part.shape)
  if isinstance(pattern, NOfM):
    steps = lambda sparsity: math.floor(sparsity * pattern.m + 1e-9)
    return lambda sparsity: np.array([max(pattern.m - steps(sparsity), pattern.n)], np.int64)
  shapes = [units_shape(forms.pattern, part) for part in parts]
  units = [math.prod(shape) for shape in shapes]

  def at(sparsity: float) -> np.ndarray:
    if asked.together:
      kept = kept_each([sparsity], [sum(units)])
      limits = asked.min_keep, asked.max_sparsity, asked.per_output
      if bounds := caps(function, parts, forms.pattern, sparsity, *limits):
        floor = sum(floors(bounds, [jax.ShapeDtypeStruct(shape, bool) for shape in shapes]))
        if floor > kept[0]:
          raise _checks.caps_contradict(function, sparsity, floor, sum(units))
      return np.array(kept, np.int64)
    shares = _scheduled(function, params, scored, sparsity, asked, final, forms.roles)
    each = jax.tree.leaves(forms.shares(shares))
    return np.array(kept_each(each, units), np.int64)

  return at


def stay_dense(
  function: str, params: Params, scored: Scores, asked: Asked, final: float
) -> list[bool]:
  """Which of the leaves the distribution leaves dense; arguments as for :func:`counts`."""
  if asked.together or isinstance(asked.pattern, (NOfM, ChannelGroups)):
    return [False] * len(leaves_by_path(scored))
  roles = _forms(function, params, scored, asked).roles
  shares = _scheduled(function, params, scored, final, asked, final, roles)
  return [share is None for share in shares]


def by_values(asked: Asked) -> bool:
  """Whether the distribution has to see scores, and not only shapes."""
  if asked.together or isinstance(asked.pattern, (NOfM, ChannelGroups)):
    return False
  return needs_of(asked.distribution).needs_scores


def shares_of(function: str, params: Params, scored: Scores, sparsity: Any, asked: Asked) -> list:
  """The sparsity of each leaf by the distribution, ``None`` where it stays dense."""
  roles = _forms(function, params, scored, asked).roles
  return _shares(function, params, scored, sparsity, asked.distribution, roles)


def _scheduled(
  function: str,
  params: Params,
  scored: Scores,
  sparsity: float,
  asked: Asked,
  final: float,
  roles: Roles,
) -> list[Any]:
  """A sparsity for each leaf at an overall one."""
  if needs_of(asked.distribution).needs_sparsity is not False:
    return _shares(function, params, scored, sparsity, asked.distribution, roles)
  part = sparsity / final if final else 1.0
  shares = _shares(function, params, scored, None, asked.distribution, roles)
  return [None if share is None else share * part for share in shares]


def _of_groups(
  function: str, scored: Scores, sparsity: Any, asked: Asked, before: Any, places: Any, first: Any
) -> Masks:
  """:func:`masks_by` where whole units of channel groups are chosen."""
  pattern, flat = asked.pattern, leaves_by_path(scored)
  if places is None:
    overall = _checks.static_fraction(function, 'sparsity', sparsity)
    kept = pattern.counts(function, flat, overall, asked.roles)
  else:
    kept = (places[:, 0].astype(np.int32) << _wide.BASE) + places[:, 1].astype(np.int32)
  apart = lambda masks: None if masks is None else leaves_by_path(masks)
  found = pattern.best(function, flat, kept, asked.roles, apart(before), apart(first))
  is_none = lambda leaf: leaf is None
  paths, _, treedef = tree.flatten(scored, is_leaf=is_none)
  return treedef.unflatten([found.get(path) for path in paths])


def _places(row: jax.Array, asked: Asked) -> Any:
  """What the selectors take, from wide counts ``(parts, 2)``: ints where they are known."""
  if not tree.is_traced(row):
    counts = [_wide.value(each) for each in np.asarray(row)]
    return counts[0] if asked.together or isinstance(asked.pattern, NOfM) else counts
  if isinstance(asked.pattern, NOfM):
    return row[0, 1].astype(np.uint8)
  return row[0] if asked.together else row


def _forms(function: str, params: Params, scored: Scores, asked: Asked) -> Forms:
  return Forms(
    function, scored, asked.pattern, asked.roles, True, tree.shapes(params), asked.per_output
  )


def _shares(
  function: str,
  params: Params,
  scored: Scores,
  sparsity: Any,
  distribution: Any,
  roles: Roles,
) -> list[Any]:
  """A checked sparsity for each leaf, as the distribution has it."""
  if sparsity is not None:
    _checks.check_fraction(function, 'sparsity', sparsity)
  elif needs_of(distribution).needs_sparsity:
    raise _checks.no_sparsity(function)
  bound = getattr(distribution, 'keywords', {})
  knowing = {'roles': roles} if takes(distribution, 'roles') and 'roles' not in bound else {}
  return sparsities_of(function, scored, distribution(params, scored, sparsity, **knowing))


def scores_by(
  function: str,
  params: Params,
  chosen: list[bool],
  scorer: Any,
  key: Any,
  roles: Roles | None,
  scorer_args: dict[str, Any],
) -> Scores:
  """Scores along the params, checked, ``None`` where a leaf is not selected."""
  found = scorer
  _checks.check_scorer(function, scorer)
  bound = scorer.keywords if isinstance(scorer, functools.partial) else {}
  if callable(scorer):
    if takes(scorer, 'key'):
      key = bound.get('key') if key is None else key
      scorer_args = {**scorer_args, 'key': key}
    elif key is not None:
      raise _checks.key_not_wanted(function, scorer)
    if roles is not None and takes(scorer, 'roles') and 'roles' not in bound:
      scorer_args = {'roles': roles, **scorer_args}
    if missing := _checks.missing_arguments(scorer, {*scorer_args, 'key'}):
      raise _checks.scorer_takes_more(function, scorer, missing, function == 'prune')
    found = scorer(params, **scorer_args)
  elif scorer_args or key is not None:
    raise _checks.arguments_not_wanted(
      function, [*scorer_args, *(['key'] if key is not None else [])]
    )
  elif [*map(id, jax.tree.leaves(found))] == [*map(id, jax.tree.leaves(params))]:
    _checks.check_not_params(function, 'scorer', jax.tree.leaves(found))
  stats = {**bound, **scorer_args}.get('stats')
  paths, leaves, treedef = tree.flatten(params)
  out = []
  for path, leaf, score, yes in zip(
    paths, leaves, along_for(function, 'scorer', params, found), chosen, strict=True
  ):
    if yes:
      _checks.check_scored(function, path, score, stats)
      _checks.check_shape(function, 'scorer', path, score, leaf.shape)
    out.append(score if yes else None)
  return treedef.unflatten(out)


def takes(function: Any, argument: str) -> bool:
  """Whether a function has an argument of this name."""
  try:
    return argument in inspect.signature(function).parameters
  except ValueError:  # a builtin without a signature
    return False
