"""The report as one page of HTML: styles inside, no script, nothing from anywhere else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jprune._text.html import text as escaped
from jprune._text.words import byte_size, count, percent, plural, ratio
from jprune.report import _bars
from jprune.report._bars import Bar

if TYPE_CHECKING:
  from jprune.report._tally import Tally

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --card: #f6f7f9; --text: #1c2026; --soft: #5c6470;
  --line: #dfe3e8; --bar: #2f6fde; --rest: #e3e7ed; }
@media (prefers-color-scheme: dark) { :root { --page: #14171c; --card: #1d2128; --text: #e8eaee;
  --soft: #9aa3b0; --line: #323843; --bar: #6ea0ff; --rest: #2b313b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 32px 20px 64px; background: var(--page);
  color: var(--text); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  font-variant-numeric: tabular-nums; }
h1 { margin: 0 0 4px; font-size: 28px; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 40px 0 12px; font-size: 20px; }
.soft { margin: 0; color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 24px 0 0; }
.card { padding: 14px 16px; border-radius: 10px; background: var(--card); }
.card dt { color: var(--soft); font-size: 14px; }
.card dd { margin: 0; font-size: 24px; font-weight: 600; white-space: nowrap; }
.box { overflow: auto; max-height: 640px; border: 1px solid var(--line); border-radius: 10px;
  padding: 6px 14px; }
.row { display: grid; grid-template-columns: minmax(0, 14rem) minmax(0, 1fr) 4.5rem 6rem; gap: 12px;
  align-items: center; padding: 3px 0; font-size: 14px; }
.row > :nth-child(1) { overflow-wrap: anywhere; }
.row > :nth-child(n + 3) { text-align: right; white-space: nowrap; }
.row > :nth-child(4), .head { color: var(--soft); }
.track { height: 12px; border-radius: 6px; background: var(--rest); overflow: hidden; }
.track > i { display: block; height: 100%; background: var(--bar); }
.table { font-size: 14px; }
.table th, .table td { border-color: var(--line) !important; }
.table tbody tr:hover { background: var(--card); }
summary { cursor: pointer; margin: 12px 0; }
p, li { overflow-wrap: anywhere; }
@media (max-width: 600px) {
  .row { grid-template-columns: minmax(0, 1fr) 4rem 4.6rem; gap: 2px 6px; padding: 6px 0; }
  .row > :nth-child(2) { grid-column: 1 / -1; grid-row: 2; }
  .card dd { font-size: 20px; }
}
"""


def page(tally: Tally, title: str, below: str = '') -> str:
  """The report of a checkpoint that is called ``title``, and HTML to stand below the cards."""
  table, styles = _classed(tally._repr_html_())
  body = [
    f'<h1>{escaped(title)}</h1>',
    f'<p class="soft">{escaped(_summary(tally))}</p>',
    _cards(tally),
    below,
    '<h2>Sparsity by kind</h2>',
    _rows('kind', 'sparsity', [_row(bar) for bar in _bars.by_kind(tally)]),
    '<h2>Sparsity by layer</h2>',
    _rows('layer', 'sparsity', [_row(bar) for bar in _bars.by_layer(tally)]),
    '<h2>How sparse the leaves are</h2>',
    _rows('zeros', 'leaves', _histogram(_bars.by_sparsity(tally))),
    '<h2>All leaves</h2>',
    f'<details{" open" if len(tally.rows) <= 50 else ""}>',
    f'<summary>{escaped(plural(len(tally.rows), "leaf"))}</summary>',
    f'<div class="table">{table}</div></details>',
  ]
  return '\n'.join(
    [
      '<!doctype html>',
      '<html lang="en"><head><meta charset="utf-8">',
      '<meta name="viewport" content="width=device-width, initial-scale=1">',
      f'<title>{escaped(title)}: jprune report</title>',
      f'<style>{_STYLE}{styles}</style></head><body>',
      *body,
      '</body></html>\n',
    ]
  )


def _classed(html: str) -> tuple[str, str]:
  """Styles that stand at each cell, as a notebook wants them, once each: half of a large page."""
  names: dict[str, str] = {}
  name = lambda found: f' class="{names.setdefault(found[1], f"s{len(names)}")}"'
  html = re.sub(r' style="([^"]*)"', name, html)
  return html, ''.join(f'.{name} {{{style}}}\n' for style, name in names.items())


def _summary(tally: Tally) -> str:
  pruned = len(tally.rows) - len(tally.skipped)
  return f'{plural(len(tally.rows), "leaf")}, {pruned:,} of them with zeros'


def _cards(tally: Tally) -> str:
  cards = {
    'Zeros': percent(tally.size - tally.nonzero, tally.size),
    'Weights': count(tally.size),
    'Nonzero': count(tally.nonzero),
    'Dense': byte_size(tally.bytes_dense),
    'As stored': byte_size(tally.bytes_stored),
    'Ratio': ratio(tally.compression),
  }
  found = (f'<div class="card"><dt>{k}</dt><dd>{v}</dd></div>' for k, v in cards.items())
  return f'<dl class="cards">{"".join(found)}</dl>'


def _rows(first: str, third: str, rows: Sequence[str]) -> str:
  head = f'<div class="row head"><span>{first}</span><span></span>'
  head += f'<span>{third}</span><span>weights</span></div>'
  return f'<div class="box">{head}{"".join(rows)}</div>'


def _row(bar: Bar) -> str:
  share = percent(bar.size - bar.nonzero, bar.size)
  return _drawn(bar.name, bar.sparsity, share, bar.size, plural(bar.leaves, 'leaf'))


def _histogram(bars: Sequence[Bar]) -> list[str]:
  most = max(bar.leaves for bar in bars) or 1
  return [_drawn(b.name, b.leaves / most, f'{b.leaves:,}', b.size, b.name) for b in bars]


def _drawn(name: str, share: float, shown: str, size: int, title: str) -> str:
  bar = (
    f'<span class="track" title="{escaped(title)}"><i style="width:{100 * share:.2f}%"></i></span>'
  )
  return (
    f'<div class="row"><span>{escaped(name)}</span>{bar}<span>{shown}</span>'
    f'<span>{count(size)}</span></div>'
  )
