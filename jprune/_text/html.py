"""Tables, lists and sentences as HTML: all names in full, long lists folded away."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Sequence

from jprune._text.words import printable


class Markup(str):
  """What is HTML already."""

  __slots__ = ()


def table(
  header: Sequence[str],
  rows: Iterable[Sequence[str]],
  total: Sequence[str] | None = None,
  words: Collection[int] = (0,),
) -> str:
  """A plain table; the columns ``words`` hold words, the others numbers."""
  style = lambda i: ' style="text-align: left"' if i in words else ''
  cell = lambda tag, i, x: f'<{tag}{style(i)}>{text(x)}</{tag}>'
  line = lambda tag, cells: f'<tr>{"".join(cell(tag, i, x) for i, x in enumerate(cells))}</tr>'
  lines = ['<table>', '<thead>', line('th', header), '</thead>', '<tbody>']
  lines += [line('td', row) for row in rows] + ['</tbody>']
  if total is not None:
    lines += ['<tfoot>', line('th', total), '</tfoot>']
  return '\n'.join([*lines, '</table>'])


def paragraph(sentence: str) -> Markup:
  """A sentence by itself."""
  return Markup(f'<p>{text(sentence.strip())}</p>')


def listed(items: Iterable[str]) -> Markup:
  """Items below each other."""
  return Markup(f'<ul>{"".join(f"<li>{text(item)}</li>" for item in items)}</ul>')


def details(title: str, items: Sequence[str]) -> Markup:
  """A list that opens with a click."""
  return Markup(f'<details><summary>{text(title)}</summary>{listed(items)}</details>')


def text(plain: str) -> Markup:
  """Plain text as HTML, on one line; HTML as it is."""
  if isinstance(plain, Markup):
    return plain
  return Markup(html.escape(printable(plain)) if plain else '')
