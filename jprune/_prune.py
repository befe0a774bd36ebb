"""Params to masks in one call: score, distribute, select."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Collection
from typing import Any

import jax

from jprune import _checks, distributions, scores
from jprune._asked import Asked
from jprune._entry import public
from jprune._prune_opened import masks_of_opened
from jprune._roles import Roles
from jprune._selection import masks_by, scores_by
from jprune._signature import readable
from jprune.io import Checkpoint
from jprune.masks import NOfM, Unstructured
from jprune.masks._apply import aligned
from jprune.typing import Distribution, Masks, Params, Pattern, Scorer, Scores, Where


@readable
@functools.partial(public, opened=True)
def prune(
  params: Params | Checkpoint,
  sparsity: float | None = None,
  *,
  scorer: Scorer | Scores = scores.magnitude,
  distribution: Distribution = distributions.uniform,
  pattern: Pattern | NOfM = Unstructured(),
  where: Where = None,
  key: jax.Array | None = None,
  masks: Masks = None,
  roles: Roles | None = None,
  min_keep: int = 0,
  max_sparsity: float = 1.0,
  per_output: bool = False,
  **scorer_args: Any,
) -> Masks:
  """Masks that prune a fraction of the lowest-scoring weights; the params stay as they are.

  Pure: usable under ``jit`` (the sparsity may be traced), with sharded params, on any tree.
  Put the masks to work with :func:`jprune.apply` and :func:`jprune.keep_pruned`.

  Args:
    params: tree of arrays; or what :func:`jprune.io.open` gives of a model that may be larger than
      memory: then leaves are read and scored one at a time, the scorer is called with a tree of one
      leaf (and a key of its own), and the masks are packed, on the host. With a distribution by
      shapes, and without ``masks``.
    sparsity: fraction of zeros in [0, 1], over the selected leaves; a traced one counts as the
      float32 nearest to it. Not for
      :class:`~jprune.masks.NOfM` and :func:`~jprune.distributions.fixed`, which have their own.
    scorer: ``scorer(params, **scorer_args) -> scores``, higher = keep; or the scores themselves.
    distribution: what each leaf contributes, ``(params, scores, sparsity) -> sparsities``;
      ``distributions.global_`` sets one threshold over all leaves.
    pattern: which weights live and die together; with :class:`~jprune.masks.ChannelGroups` leaves
      are those of the groups.
    where: selects the leaves to prune. By default kernels: by ``roles``, or, as far as names
      tell, all floating leaves with two axes longer than 1 that are no biases, norms, class tokens,
      position tables or state (:func:`jprune.tree.skipped` says why a leaf is left out). A regular
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
    min_keep: the least number of weights (of units, with a pattern) that every selected leaf
      keeps; a leaf that has fewer keeps all of them. What an earlier round pruned stays pruned
      nevertheless.
    max_sparsity: the largest fraction of zeros of a selected leaf. The best weights that
      ``min_keep`` and ``max_sparsity`` ask for have the first places. With
      ``distributions.global_`` the others compete for those that are left, and exactly
      ``round(sparsity * size)`` weights go; with any other distribution a leaf that would lose
      more than it may keeps more than its share, and the other leaves keep theirs.
    per_output: whether both hold for each output of a leaf; where neither roles nor names tell
      its outputs, for what lies at one index of the last axis.
    **scorer_args: passed to the scorer.

  Returns:
    Masks with the structure of ``params``: a bool array for each selected leaf (``True`` =
    keep), ``None`` for the others.

  Raises:
    ValueError: if nothing is selected, a regular expression finds only what the default leaves
      out, or weights are quantised; if the sparsity is outside [0, 1], the pattern doesn't fit a
      shape or isn't that of an :class:`~jprune.sensitivity.Allocation`, scores are NaN, structures
      differ, the roles are of other leaves, or ``min_keep`` and ``max_sparsity`` keep more than
      the sparsity leaves (a traced sparsity gives way to them).
    TypeError: if a selected leaf is not floating, or a key is missing or not wanted.

  Examples:
    >>> params = {'kernel': jnp.array([[0.1, -3.0], [2.0, 0.2]]), 'bias': jnp.ones(2)}
    >>> prune(params, 0.5)
    {'bias': None, 'kernel': Array([[False,  True], [ True, False]], dtype=bool)}

    One threshold over all leaves may empty one of them:

    >>> small, large = jnp.array([[0.1, 0.2]]), jnp.array([[3.0, 4.0]])
    >>> params = {'a': {'kernel': small}, 'b': {'kernel': large}}
    >>> masks = prune(params, 0.5, distribution=distributions.global_, min_keep=1)
    >>> masks['a']['kernel'], masks['b']['kernel']
    (Array([[False,  True]], dtype=bool), Array([[False,  True]], dtype=bool))
  """
  _check_keywords(scorer, scorer_args)
  if roles is None and isinstance(where, Roles):
    roles = where
  asked = Asked(distribution, pattern, roles, min_keep, max_sparsity, per_output)
  asked.check('prune')
  if isinstance(params, Checkpoint):
    return masks_of_opened(params, sparsity, scorer, asked, where, key, masks, scorer_args)
  chosen = asked.selected('prune', params, where)
  before = None
  if masks is not None:
    before = jax.tree.structure(params).unflatten(aligned('prune', params, masks))
  scored = scores_by('prune', params, chosen, scorer, key, roles, scorer_args)
  return masks_by('prune', params, scored, sparsity, asked, before)


def _check_keywords(scorer: Any, given: Collection[str]) -> None:
  """Refuses keywords that neither :func:`prune` has nor its scorer."""
  own = [name for name in inspect.signature(prune).parameters if name != 'scorer_args']
  if not callable(scorer):  # scores, for which any is too many
    unknown = [name for name in given if difflib.get_close_matches(name, own, 1)]
    if unknown:
      raise _checks.unknown_argument('prune', unknown[0], own)
  elif unknown := _checks.unknown_arguments(scorer, given):
    takes = list(inspect.signature(scorer).parameters)[1:]
    raise _checks.unknown_argument('prune', unknown[0], own + takes, scorer)
