"""Saving by several processes at once, over which arrays are spread."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jprune.io import _leaf, _together, _writer
from jprune.io._replaced import Place, folder_for
from jprune.io._together import Attempt


def write(
  function: str,
  target: str,
  most: int | None,
  paths: Sequence[str],
  leaves: Sequence[Any],
  masks: Sequence[Any],
  contents: Mapping[str, Any],
  metadata: Mapping[str, str] | None,
) -> None:
  """Saves leaves and masks; all processes must call.

  Args:
    function: who asks, for messages.
    target: the file or the folder.
    most: bytes of each file of several; ``None``: one file.
    paths: of the leaves.
    leaves: of the params.
    masks: of each leaf, or ``None``.
    contents: what jprune's metadata say besides.
    metadata: texts of other tools.
  """
  attempt = Attempt(function)
  attempt.do(_writer.check_target, function, target, most)
  attempt.agree()
  kept = _together.kept(masks)
  plans = [_leaf.plan_for(*each) for each in zip(paths, leaves, masks, kept, strict=True)]
  each = dict(zip(paths, zip(leaves, masks, strict=True)))
  with attempt.cleared():
    if most is None:
      _one_file(function, target, plans, each, contents, metadata, attempt)
    else:
      groups = _writer.groups(plans, most)
      _several_files(function, target, groups, each, contents, metadata, attempt)


def _one_file(
  function: str,
  target: str,
  plans: Sequence[_leaf.Leaf],
  each: Mapping[str, tuple[Any, Any]],
  contents: Mapping[str, Any],
  metadata: Mapping[str, str] | None,
  attempt: Attempt,
) -> None:
  """The first process writes."""
  out: Any = None
  with contextlib.ExitStack() as stack:
    if jax.process_index() == 0:
      file = _writer.one_file(function, target, plans, contents, metadata=metadata)
      out = attempt.do(stack.enter_context, file)
    attempt.agree()
    for plan in plans:
      _put(attempt, out, plan.path, 0, *each[plan.path])
    attempt.agree()
    attempt.do(stack.close)
  attempt.agree()


def _several_files(
  function: str,
  target: str,
  groups: Sequence[Sequence[_leaf.Leaf]],
  each: Mapping[str, tuple[Any, Any]],
  contents: Mapping[str, Any],
  metadata: Mapping[str, str] | None,
  attempt: Attempt,
) -> None:
  """Each process writes its files; the first one makes room for them, and puts up the index."""
  rank, plans = jax.process_index(), [plan for group in groups for plan in group]
  _writer.check_names(function, plans)
  token = _together.shared(secrets.token_hex(8).encode()).decode()
  place = Place(function, 'path', target, 'model', len(groups), token)
  owners = _together.dealt([sum(map(_writer.nbytes, group)) for group in groups])
  mine = [i for i, owner in enumerate(owners) if owner == rank]
  with contextlib.ExitStack() as stack:
    if rank == 0:
      attempt.do(stack.enter_context, folder_for(function, 'path', target))
      attempt.do(place.prepare)
    attempt.agree()
    stack.enter_context(place.cleared_on_failure())
    files = stack.enter_context(contextlib.ExitStack())
    begun = _writer.growing_files(place, groups, mine, metadata)
    growing: Any = attempt.do(files.enter_context, begun)
    attempt.agree()
    out = _writer.Writer(growing)
    for owner, group in zip(owners, groups, strict=True):
      for plan in group:
        _put(attempt, out, plan.path, owner, *each[plan.path])
    attempt.agree()
    attempt.do(files.close)
    attempt.agree()  # all files are there
    sums = _together.added([out.checksums.get(plan.path, 0) for plan in plans])
    checksums = dict(zip((plan.path for plan in plans), sums))
    if rank == 0:
      attempt.do(place.commit, lambda names: _writer.index_text(groups, contents, checksums, names))
    attempt.agree()


def _put(attempt: Attempt, out: Any, path: str, owner: int, leaf: Any, mask: Any) -> None:
  """Gathers a leaf and its mask to their owner, who writes them."""
  values = _gathered(attempt, _together.host, leaf, owner)
  bools = None if mask is None else _gathered(attempt, _together.host_mask, mask, owner)
  if jax.process_index() == owner:
    attempt.do(out.put, path, values, bools)


def _gathered(attempt: Attempt, gather: Callable[..., Any], leaf: Any, owner: int) -> Any:
  """What lies here alone may be read only by its owner, and may fail there alone."""
  if _together.spans(leaf):
    return gather(leaf, owner)
  return attempt.do(gather, leaf, owner)
