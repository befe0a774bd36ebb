"""``prune IN OUT``: what ``jprune.prune`` makes of the file, without loading it."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable

from jprune import _batches, _checks
from jprune._cli import _errors, _scales, _scores, _select, _target
from jprune._cli._say import say
from jprune._cli._source import ModelSource, opened
from jprune._cli._tally import masked_row
from jprune._text.words import byte_size, plural
from jprune.distributions._needs import needs_of
from jprune.masks import NOfM
from jprune.report import Tally

# where the axis that a kernel is multiplied along stands, by the metadata's `format`
AXES = {'pt': 1, 'mlx': -1, 'flax': -2, 'tf': -2}


def run(args: argparse.Namespace) -> None:
  """Prunes, and prints what was asked, what every leaf lost, and what was written."""

  def shown(word: str, leaves: list[int]) -> Iterable[int]:
    return _batches.shown(f'prune: {word}', leaves, args.progress, 'leaf', len(leaves))

  with opened('prune', args.inputs) as source:
    target = _output(args, source)
    chosen = _select.selected(source, args.where)
    pattern = _pattern(args, source)
    _say(args, _asked(args, source, chosen, pattern))
    choice = _choice(args, source, chosen, pattern, shown)
    _target.write(target, source, choice, args.format == 'sparse', shown)
    tally = _tally(source, choice)
  size = os.path.getsize(target)
  if args.json:
    written = {'path': args.output, 'format': args.format, 'bytes': size}
    say(json.dumps({**tally.to_dict(), 'written': written}, indent=2))
  _say(args, f'{tally}\n\nWrote {args.output!r}, {byte_size(size)}. {_NEXT[args.format]}')


_NEXT = {
  'sparse': 'jprune.load gives params and masks.',
  'dense': 'Same tensors as before, zeros in them; no masks.',
}


def _output(args: argparse.Namespace, source: ModelSource) -> str:
  """Where to write, refused before anything is read if that can't be."""
  target = _checks.as_path('prune', args.output, 'OUT')
  _checks.check_output('prune', target, 'OUT')
  if os.path.exists(target):
    if any(os.path.samefile(path, target) for path in source.paths):
      raise _errors.output_is_input(target)
    if not args.force:
      raise _errors.output_exists(target)
  return target


def _pattern(args: argparse.Namespace, source: ModelSource) -> NOfM | None:
  if args.n_of_m is None:
    return None
  axis, named = args.axis, source.metadata.get('format')
  if axis is None:
    axis = AXES.get(named or '', -2 if source.origin and not named else None)
  if axis is None:
    raise _errors.unknown_axis(named)
  n, m = args.n_of_m
  return NOfM(n, m, axis, args.pad)


def _asked(
  args: argparse.Namespace, source: ModelSource, chosen: list[int], pattern: NOfM | None
) -> str:
  if pattern is None:
    amount = f'sparsity {args.sparsity:g}, {args.distribution}'
  else:
    amount = f'{pattern.n}:{pattern.m} along axis {pattern.axis}'
    if args.axis is None:
      named = source.metadata.get('format')
      amount += f' (format={named})' if named else f' ({source.origin})'
  scorer = args.scorer + (f' (seed {args.seed})' if args.scorer == 'random' else '')
  return f'{amount}, {scorer}: {len(chosen)} of {plural(len(source.plans), "leaf")} selected.\n'


def _choice(
  args: argparse.Namespace,
  source: ModelSource,
  chosen: list[int],
  pattern: NOfM | None,
  shown: _select.Shown,
) -> _select.Choice:
  plans, random = source.plans, args.scorer == 'random'
  distribution = _select.DISTRIBUTIONS[args.distribution]
  together = pattern is None and needs_of(distribution).one_threshold
  scales_of = _scales.checked(source, chosen, together and not random)
  if random:
    order = source.order
    place = {i: number for number, i in enumerate(order)}
    drawn = _scores.random([plans[i].path for i in order], args.seed)
    rank = lambda i, values: drawn(place[i], values.size)
  else:
    rank = lambda i, values: _scores.magnitude(plans[i].path, values, scales_of(i))
  if pattern is not None:
    return _select.groups(source, chosen, pattern, rank, shown)
  if together:
    return _select.together(source, chosen, args.sparsity, rank, shown)
  return _select.per_leaf(source, chosen, distribution, args.sparsity, rank)


def _tally(source: ModelSource, choice: _select.Choice) -> Tally:
  """Of all leaves, the masks that others had before included."""
  rows, usual = [], source.skipped()
  for i in source.order:
    plan = source.plans[i]
    has_mask = i in choice.kept or plan.mask is not None
    rows.append(masked_row(source, i, choice.kept.get(i, plan.kept), has_mask, usual[i]))
  return Tally(tuple(rows))


def _say(args: argparse.Namespace, text: str) -> None:
  if not (args.quiet or args.json):
    say(text)
