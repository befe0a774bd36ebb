"""Params to masks in one call: score, distribute, select."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import jax

from jprune import _checks, distributions, scores, tree
from jprune._entry import public
from jprune._roles import Roles
from jprune.masks import NOfM, Unstructured
from jprune.masks._apply import aligned
from jprune.masks._forms import Forms
from jprune.masks._leaves import sparsities_of
from jprune.masks._top_k import select, select_global
from jprune.typing import Distribution, Masks, Params, Pattern, Scorer, Scores, Where

# custom ones may know their sparsities themselves, as `fixed` does
_NEED_SPARSITY = (
  distributions.uniform,
  distributions.er,
  distributions.erk,
  distributions.owl,
)


@public
def prune(
  params: Params,
  sparsity: float | None = None,
  *,
  scorer: Scorer | Scores = scores.magnitude,
  distribution: Distribution = distributions.uniform,
  pattern: Pattern | NOfM = Unstructured(),
  where: Where = None,
  key: jax.Array | None = None,
  masks: Masks = None,
  roles: Roles | None = None,
  **scorer_args: Any,
) -> Masks:
  """Masks that prune a fraction of the lowest-scoring weights; the params stay as they are.

  Pure: usable under ``jit`` (the sparsity may be traced), with sharded params, on any tree.
  Put the masks to work with :func:`jprune.apply` and :func:`jprune.keep_pruned`.

  Args:
    params: tree of arrays.
    sparsity: fraction of zeros in [0, 1], over the selected leaves; a traced one counts as the
      float32 nearest to it. Not for
      :class:`~jprune.masks.NOfM` and :func:`~jprune.distributions.fixed`, which have their own.
    scorer: ``scorer(params, **scorer_args) -> scores``, higher = keep; or the scores themselves.
    distribution: what each leaf contributes, ``(params, scores, sparsity) -> sparsities``;
      ``distributions.global_`` sets one threshold over all leaves.
    pattern: which weights live and die together.
    where: selects the leaves to prune. By default kernels: by ``roles``, or, as far as names
      tell, all floating leaves with two axes longer than 1 that are no biases, norms, class tokens,
      position tables or state (:func:`jprune.tree.left_out` says why a leaf is left out). A regular
      expression that is searched for in paths narrows the default; a predicate
      ``(path, leaf) -> bool`` or a tree of bools chooses exactly. Of a list of these, any; a leaf's
      exact path in it chooses that leaf.
    key: a typed random key, for scorers that take one.
    masks: of an earlier round. What they pruned stays pruned and counts towards the sparsity; a
      leaf that is sparser already than asked stays as it is. Leaves that are not selected keep
      their earlier mask.
    roles: what a function does with each leaf, from :func:`jprune.graph.roles`, or by names
      where it isn't given. The layers of a stack are pruned as leaves of their own, each to its
      sparsity; distributions that know fan-in and fan-out and patterns that run along inputs take
      them from here.
    **scorer_args: passed to the scorer.

  Returns:
    Masks with the structure of ``params``: a bool array for each selected leaf (``True`` =
    keep), ``None`` for the others.

  Raises:
    ValueError: if nothing is selected, a regular expression finds only what the default leaves
      out, or weights are quantised; if the sparsity is outside [0, 1], the pattern doesn't fit a
      shape or isn't that of an :class:`~jprune.sensitivity.Allocation`, scores are NaN, structures
      differ, or the roles are of other leaves.
    TypeError: if a selected leaf is not floating, or a key is missing or not wanted.

  Examples:
    >>> params = {'kernel': jnp.array([[0.1, -3.0], [2.0, 0.2]]), 'bias': jnp.ones(2)}
    >>> prune(params, 0.5)
    {'bias': None, 'kernel': Array([[False,  True], [ True, False]], dtype=bool)}
  """
  if not callable(distribution):
    raise _checks.bad_distribution('prune', distribution)
  if isinstance(pattern, NOfM) and distribution is not distributions.uniform:
    raise _checks.pattern_shares_alike('prune', pattern)
  _checks.check_measured_pattern('prune', distribution, pattern)
  chosen = tree.selected('prune', params, where, roles)
  before = None
  if masks is not None:
    before = jax.tree.structure(params).unflatten(aligned('prune', params, masks))
  scored = _scores(params, chosen, scorer, key, scorer_args)
  forms = Forms('prune', scored, pattern, roles, shapes=_shapes(params))
  parts, before = forms.split(scored), None if before is None else forms.split(before)
  if isinstance(pattern, NOfM):
    new = select('prune', parts, sparsity, forms.pattern, before)
  elif distribution is distributions.global_:
    if sparsity is None:
      raise _checks.no_sparsity('prune')
    new = select_global('prune', parts, sparsity, forms.pattern, before)
  else:
    if sparsity is not None:
      _checks.check_fraction('prune', 'sparsity', sparsity)
    elif getattr(distribution, 'func', distribution) in _NEED_SPARSITY:
      raise _checks.no_sparsity('prune')
    knowing = {} if roles is None or not _takes(distribution, 'roles') else {'roles': roles}
    shares = distribution(params, scored, sparsity, **knowing)
    shares = forms.shares(sparsities_of('prune', scored, shares))
    new = select('prune', parts, shares, forms.pattern, before)
  return forms.join(new)


def _shapes(params: Params) -> dict[str, tuple[int, ...]]:
  paths, leaves, _ = tree.flatten(params)
  return {path: tuple(getattr(leaf, 'shape', ())) for path, leaf in zip(paths, leaves)}


def _scores(
  params: Params, chosen: list[bool], scorer: Any, key: Any, scorer_args: dict[str, Any]
) -> Scores:
  """Scores along the params, ``None`` where a leaf is not selected."""
  found = scorer
  if scorer is None or isinstance(scorer, str):
    raise _checks.bad_scorer('prune', scorer)
  bound = scorer.keywords if isinstance(scorer, functools.partial) else {}
  if callable(scorer):
    if _takes(scorer, 'key'):
      key = bound.get('key') if key is None else key
      scorer_args = {**scorer_args, 'key': key}
    elif key is not None:
      raise _checks.key_not_wanted('prune', scorer)
    if missing := _checks.missing_arguments(scorer, {*scorer_args, 'key'}):
      raise _checks.scorer_takes_more('prune', scorer, missing)
    found = scorer(params, **scorer_args)
  elif scorer_args or key is not None:
    raise _checks.arguments_not_wanted(
      'prune', [*scorer_args, *(['key'] if key is not None else [])]
    )
  stats = {**bound, **scorer_args}.get('stats')
  paths, leaves, treedef = tree.flatten(params)
  out = []
  for path, leaf, score, yes in zip(
    paths, leaves, tree.along('prune', 'scorer', params, found), chosen, strict=True
  ):
    if yes:
      _checks.check_scored('prune', path, score, stats)
      _checks.check_shape('prune', 'scorer', path, score, leaf.shape)
    out.append(score if yes else None)
  return treedef.unflatten(out)


def _takes(function: Any, argument: str) -> bool:
  try:
    return argument in inspect.signature(function).parameters
  except ValueError:  # a builtin without a signature
    return False
