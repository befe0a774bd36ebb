"""``tally FILE``: what ``jprune.tally`` says of the checkpoint, without loading it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from jprune import _batches
from jprune._cli._say import say
from jprune._cli._source import ModelSource, opened
from jprune._shrink import Plan
from jprune.report import LeafTally, Tally
from jprune.report._count import nonzeros
from jprune.report._leaf import row_of
from jprune.report._reasons import explained


def run(args: argparse.Namespace) -> None:
  """Prints the table, or the same as JSON."""
  with opened('tally', args.files) as source:
    tally = counted('tally', source, args.progress)
  if args.json:
    say(json.dumps({**tally.to_dict(), **shrunk(source.plan)}, indent=2))
  else:
    say(with_plan(str(tally), source.plan))


def shrunk(plan: Plan | None) -> dict[str, Any]:
  """Of how many weights a small model has how many, for JSON."""
  if plan is None:
    return {}
  full, small = plan.size
  return {'shrunk': {'size': small, 'size_full': full}}


def with_plan(text: str, plan: Plan | None) -> str:
  """A small model says what it was shrunk by: all that is there may be dense."""
  return text if plan is None else f'{text}\n\nShrunk. {plan}'


def counted(function: str, source: ModelSource, progress: bool) -> Tally:
  """The tally of a checkpoint, under a progress bar."""
  order = source.order
  has_mask = [source.plans[i].mask is not None for i in order]
  usual = usual_reasons(source, has_mask) if source.masked else {}
  leaves = _batches.shown(function, order, progress, 'leaf', len(order))
  return Tally(tuple(_row(source, i, usual.get(i)) for i in leaves))


def _row(source: ModelSource, i: int, usual: str | None) -> LeafTally:
  if source.masked:
    plan = source.plans[i]
    return masked_row(source, i, plan.kept, plan.mask is not None, usual)
  values, _ = source.read(i)
  nonzero = nonzeros([values])[0]
  return row_of(source.plans[i].path, values, nonzero, None, masked=False)


def usual_reasons(source: ModelSource, masked: Sequence[bool]) -> dict[int, str | None]:
  """Why leaves have no mask, by place among the plans; ``masked``, in order, says which have."""
  usual = source.skipped()
  return dict(zip(usual, explained(list(usual.values()), masked), strict=True))


def masked_row(
  source: ModelSource, i: int, kept: int, has_mask: bool, usual: str | None
) -> LeafTally:
  """A leaf by its mask: no values are looked at."""
  struct = source.struct(i)
  return row_of(source.plans[i].path, struct, kept, has_mask or None, True, usual=usual)
