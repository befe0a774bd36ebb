"""``prune IN OUT``: what ``jprune.prune`` makes of the file, without loading it."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable

from jprune import _batches, distributions
from jprune._cli import _errors, _scales, _scores, _select, _target
from jprune._cli._output import Output, output
from jprune._cli._parser import DISTRIBUTIONS
from jprune._cli._say import say
from jprune._cli._source import ModelSource, opened
from jprune._cli._tally import masked_row, usual_reasons
from jprune._text.words import byte_size, percent, plural
from jprune.distributions._needs import needs_of
from jprune.io import _shards
from jprune.io._beside import Beside
from jprune.masks import NOfM
from jprune.report import Tally

# where the axis that a kernel is multiplied along stands, by the metadata's `format`
AXES = {'pt': 1, 'mlx': -1, 'flax': -2, 'tf': -2}
# Kernels with more outputs than inputs in whatever model has them; and all that are as they are.
_WIDE = ('c_attn.weight', 'c_fc.weight')
_CONV1D = (*_WIDE, 'q_attn.weight', 'c_proj.weight')


def run(args: argparse.Namespace) -> None:
  """Prunes, and prints what was asked, what every leaf lost, and what was written."""

  def shown(word: str, leaves: list[int]) -> Iterable[int]:
    return _batches.shown(f'prune: {word}', leaves, args.progress, 'leaf', len(leaves))

  with opened('prune', args.inputs) as source:
    target = output(args.output, source, args.max_shard_size, args.force)
    chosen = _select.selected(source, args.where)
    axes, said = _axes(args, source)
    _say(args, _asked(args, source, chosen, said))
    choice = _choice(args, source, chosen, axes, shown)
    tally = _tally(source, choice)
    if args.dry_run:
      foreseen = _target.foreseen(target, source, choice, args.format == 'sparse')
      _say_dry(args, tally, len(choice.kept), *foreseen)
      return
    beside = _target.write(target, source, choice, args.format == 'sparse', shown)
  files = _files(target)
  size = sum(map(os.path.getsize, files))
  if args.json:
    names = [os.path.basename(file) for file in files]
    written = {'path': args.output, 'format': args.format, 'bytes': size, 'files': names}
    say(json.dumps({**tally.to_dict(), 'written': {**written, **beside._asdict()}}, indent=2))
  what = byte_size(size) if len(files) == 1 else f'{len(files)} files, {byte_size(size)}'
  next_ = f'{_NEXT[args.format]}{_SIZES[args.format]}'
  _say(args, f'{tally}\n\nWrote {args.output!r}, {what}. {next_}{_said(beside)}')


def _say_dry(args: argparse.Namespace, tally: Tally, leaves: int, size: int, files: int) -> None:
  """Says what would be written: so many bytes, without the headers, in so many files."""
  if args.json:
    planned = {'path': args.output, 'format': args.format, 'bytes': size, 'files': files}
    say(json.dumps({**tally.to_dict(), 'would_write': planned}, indent=2))
  where = f'{args.output!r}, about {byte_size(size)}'
  where += '' if files == 1 else f' in {files} files'
  pruned = f'{tally.size - tally.nonzero:,} of {plural(tally.size, "weight")} would be zero'
  dry = f'Dry run: {pruned}, in {plural(leaves, "leaf")} that are pruned.'
  _say(args, f'{tally}\n\n{dry}\nNothing was written; it would be {where}.{_SIZES[args.format]}')


_SIZES = {'sparse': '', 'dense': '\nBytes as stored, above, are those of --format sparse.'}
_NEXT = {
  'sparse': 'jprune.load gives params and masks.',
  'dense': 'Same tensors as before, zeros in them; no masks.',
}


def _files(target: Output) -> list[str]:
  """The files of weights that were written."""
  if target.file is not None:
    return [target.file]
  with _shards.opened('prune', target.path) as found:
    return list(found.files)


def _said(beside: Beside) -> str:
  """What became of the files beside the weights."""
  copied = f'\nCopied beside it: {", ".join(beside.copied)}.' if beside.copied else ''
  return copied + (f'\nNot copied: {", ".join(beside.skipped)}.' if beside.skipped else '')


def _axes(args: argparse.Namespace, source: ModelSource) -> tuple[list[int], str]:
  """Along which axis the groups of each leaf lie, and how to say it; no axes without groups."""
  if args.n_of_m is None:
    return [], ''
  named, plans = source.metadata.get('format'), source.plans
  if args.axis is not None:
    return [args.axis] * len(plans), f'{args.axis}'
  if source.origin and not named:
    return [-2] * len(plans), f'-2 ({source.origin})'
  wide = [leaf.shape for leaf in plans if leaf.path.endswith(_WIDE) and len(leaf.shape) == 2]
  if named in ('pt', None) and wide and all(a < b for a, b in wide):
    axes = [0 if leaf.path.endswith(_CONV1D) else AXES['pt'] for leaf in plans]
    return axes, f'0 of the Conv1D of transformers, {AXES["pt"]} of others'
  if named not in AXES:
    raise _errors.unknown_axis(named)
  return [AXES[named]] * len(plans), f'{AXES[named]} (format={named})'


def _asked(args: argparse.Namespace, source: ModelSource, chosen: list[int], axes: str) -> str:
  if args.n_of_m is None:
    amount = f'sparsity {percent(args.sparsity, 1)}, {args.distribution}'
  else:
    n, m = args.n_of_m
    amount = f'{n}:{m} along axis {axes}'
  scorer = args.scorer + (f' (seed {args.seed})' if args.scorer == 'random' else '')
  return f'{amount}, {scorer}: {len(chosen)} of {plural(len(source.plans), "leaf")} selected.\n'


def _choice(
  args: argparse.Namespace,
  source: ModelSource,
  chosen: list[int],
  axes: list[int],
  shown: _select.Shown,
) -> _select.Choice:
  plans, random = source.plans, args.scorer == 'random'
  distribution = getattr(distributions, DISTRIBUTIONS[args.distribution])
  together = args.n_of_m is None and needs_of(distribution).one_threshold
  scales_of = _scales.checked(source, chosen, together and not random)
  if random:
    order = source.order
    place = {i: number for number, i in enumerate(order)}
    drawn = _scores.random([plans[i].path for i in order], args.seed)
    rank = lambda i, values: drawn(place[i], values.size)
  else:
    rank = lambda i, values: _scores.magnitude(plans[i].path, values, scales_of(i))
  if args.n_of_m is not None:
    n, m = args.n_of_m
    patterns = [NOfM(n, m, axis, args.pad) for axis in axes]
    return _select.groups(source, chosen, patterns, rank, shown)
  if together:
    return _select.together(source, chosen, args.sparsity, rank, shown)
  return _select.per_leaf(source, chosen, distribution, args.sparsity, rank)


def _tally(source: ModelSource, choice: _select.Choice) -> Tally:
  """Of all leaves, the masks that others had before included."""
  plans = source.plans
  masked = [i in choice.kept or plans[i].mask is not None for i in source.order]
  usual = usual_reasons(source, masked)
  return Tally(
    tuple(
      masked_row(source, i, choice.kept.get(i, plans[i].kept), has_mask, usual[i])
      for i, has_mask in zip(source.order, masked)
    )
  )


def _say(args: argparse.Namespace, text: str) -> None:
  if not (args.quiet or args.json):
    say(text)
