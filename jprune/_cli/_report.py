"""``report FILE``: the tally, and bars by layer, by kind and by sparsity; as text or as a page."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from jprune import _checks
from jprune._cli import _errors
from jprune._cli._say import say
from jprune._cli._source import opened
from jprune._cli._tally import counted, shrunk, with_plan
from jprune._shrink import Plan
from jprune._text.table import table
from jprune._text.words import byte_size, count, percent
from jprune.io._atomic import replacing
from jprune.report import Tally, _bars, _page
from jprune.report._bars import Bar

_WIDTH = 30  # of a bar, in columns
_MOST = 100  # bars in a terminal


def run(args: argparse.Namespace) -> None:
  """Prints the report, or writes it as a page."""
  with opened('report', args.files) as source:
    if args.html is not None:
      _check_output(args.html, source.paths, args.force)
    tally = counted('report', source, args.progress)
  plan = source.plan
  written = None if args.html is None else _write(args, tally, plan, source.mode)
  if args.json:
    say(json.dumps({**tally.to_dict(), **_as_dict(tally), **shrunk(plan)}, indent=2))
  elif written is None:
    say(with_plan(text(tally), plan))
  else:
    say(f'Wrote {args.html!r}, {byte_size(written)}. Open it in a browser.')


def _write(args: argparse.Namespace, tally: Tally, plan: Plan | None, mode: int) -> int:
  """Writes the page; how many bytes that were. As private as the checkpoint."""
  title = os.path.basename(os.path.abspath(args.files[0]))
  below = ''
  if plan is not None:
    below = f'<h2>Shrunk</h2>\n<div class="table">{plan._repr_html_()}</div>'
  data = _page.page(tally, title, below).encode('utf-8', 'replace')
  with replacing(args.html, mode | 0o600, 'report', '--html') as (file, _):
    file.write(data)
  return len(data)


def _check_output(path: str, inputs: Sequence[str], force: bool) -> None:
  _checks.check_output('report', _checks.as_path('report', path, '--html'), '--html')
  if not os.path.exists(path):
    return
  if any(os.path.samefile(each, path) for each in inputs):
    raise _errors.output_is_input(path, 'report', '--html', 'FILE')
  if not force:
    raise _errors.output_exists(path, 'report', '--html')


def _as_dict(tally: Tally) -> dict[str, list[dict]]:
  found = {
    'layers': _bars.by_layer(tally),
    'kinds': _bars.by_kind(tally),
    'histogram': _bars.by_sparsity(tally),
  }
  return {name: [bar.to_dict() for bar in bars] for name, bars in found.items()}


def text(tally: Tally) -> str:
  """The report for a terminal."""
  layers = _bars.fewer(_bars.by_layer(tally), _MOST)
  parts = [_lines('kind', _bars.by_kind(tally)), _lines('layer', layers), _histogram(tally)]
  return '\n\n'.join([str(tally), *('\n'.join(lines) for lines in parts)])


def _lines(word: str, bars: Sequence[Bar]) -> list[str]:
  rows = [
    [bar.name, _drawn(bar.sparsity), percent(bar.size - bar.nonzero, bar.size), count(bar.size)]
    for bar in bars
  ]
  return table([word, '', 'sparsity', 'weights'], rows, words=(0, 1))


def _histogram(tally: Tally) -> list[str]:
  bars = _bars.by_sparsity(tally)
  most = max(bar.leaves for bar in bars) or 1
  rows = [[bar.name, _drawn(bar.leaves / most), count(bar.leaves), count(bar.size)] for bar in bars]
  return table(['zeros', '', 'leaves', 'weights'], rows, words=(0, 1))


def _drawn(share: float) -> str:
  """A bar; of plain letters where the terminal has no others. Never empty where something is."""
  eighths = max(round(share * _WIDTH * 8), 1 if share > 0 else 0)
  full, rest = divmod(eighths, 8)
  try:
    '█▏'.encode(getattr(sys.stdout, 'encoding', None) or 'utf-8')
  except UnicodeEncodeError:
    return ('#' * -(-eighths // 8)).ljust(_WIDTH)
  return ('█' * full + ' ▏▎▍▌▋▊▉'[rest].strip()).ljust(_WIDTH)
