"""Tables, lists and sentences as HTML: all names in full, long lists folded away.

Styles stand at the elements, for some viewers of notebooks drop style sheets, and the page that it
lands on has its own. There are no colors but that of the text around, so that it is read on any
background.
"""

from __future__ import annotations

import html
import zlib
from collections.abc import Collection, Iterable, Sequence

from jprune._text.words import printable

# A wide table scrolls in its own box, and widens no page.
_BOX = 'overflow-x:auto;max-width:100%;margin:.5em 0'
_TABLE = (
  'border-collapse:collapse;width:auto;margin:0;display:table;font-variant-numeric:tabular-nums'
)
_CELL = 'text-align:{};white-space:nowrap;padding:.2em .6em'
# A name is broken before it pushes the numbers off a narrow page.
_NAME = 'text-align:left;overflow-wrap:anywhere;min-width:14em;padding:.2em .6em'
_SENTENCE = 'text-align:left;white-space:normal;min-width:16em;padding:.2em .6em'
_LINES = {'th': ';border-bottom:1px solid;vertical-align:bottom', 'td': ';vertical-align:top'}
_TOTAL = ';border-top:1px solid'
_MANY = 1000  # rows from which on styles at each cell would take megabytes; a sheet has them
_BREAKS = 'overflow-wrap:anywhere'  # a name may be longer than the page is wide


class Markup(str):
  """What is HTML already."""

  __slots__ = ()


def table(
  header: Sequence[str],
  rows: Iterable[Sequence[str]],
  total: Sequence[str] | None = None,
  words: Collection[int] = (0,),
) -> str:
  """A table in a box that scrolls; the columns ``words`` hold words, the others numbers.

  Where all do, the last one is of sentences, which may be broken.
  """
  last = len(header) - 1 if len(words) == len(header) else None
  sides = ['left' if i in words else 'right' for i in range(len(header))]
  styles = [_CELL.format(side) for side in sides]
  if 0 in words:
    styles[0] = _NAME
  if last is not None:
    styles[last] = _SENTENCE

  rows = list(rows)
  sheet = name = ''
  if len(rows) > _MANY:
    rules = ''.join(f'tr>:nth-child({i + 1}){{{style}}}' for i, style in enumerate(styles))
    name = f'jprune-{zlib.crc32(rules.encode()):x}'
    sheet = f'<style>.{name} {rules.replace("}tr", "}." + name + " tr")}</style>'
    styles = [''] * len(styles)

  def line(tag: str, cells: Sequence[str], more: str) -> str:
    opened = [f'<{tag} style="{style}{more}">' if style else f'<{tag}>' for style in styles]
    found = (f'{start}{text(cell)}</{tag}>' for start, cell in zip(opened, cells))
    return f'<tr>{"".join(found)}</tr>'

  named = f' class="{name}"' if name else ''
  lines = [f'{sheet}<div style="{_BOX}"><table{named} style="{_TABLE}">']
  lines += ['<thead>', line('th', header, _LINES['th']), '</thead>', '<tbody>']
  lines += [line('td', row, _LINES['td']) for row in rows] + ['</tbody>']
  if total is not None:
    lines += ['<tfoot>', line('th', total, _TOTAL), '</tfoot>']
  return '\n'.join([*lines, '</table></div>'])


def paragraph(sentence: str) -> Markup:
  """A sentence by itself."""
  return Markup(f'<p style="{_BREAKS}">{text(sentence.strip())}</p>')


def listed(items: Iterable[str]) -> Markup:
  """Items below each other."""
  return Markup(f'<ul style="{_BREAKS}">{"".join(f"<li>{text(item)}</li>" for item in items)}</ul>')


def details(title: str, items: Sequence[str]) -> Markup:
  """A list that opens with a click."""
  return Markup(f'<details><summary>{text(title)}</summary>{listed(items)}</details>')


def page(title: str, body: str) -> str:
  """A page of its own, in the colors that its reader's browser is set to."""
  style = (
    ':root { color-scheme: light dark } '
    'body { font-family: system-ui, sans-serif; line-height: 1.5; max-width: 72em; '
    'margin: 2em auto; padding: 0 1em }'
  )
  return '\n'.join(
    [
      '<!DOCTYPE html>',
      '<html lang="en">',
      '<head>',
      '<meta charset="utf-8">',
      '<meta name="viewport" content="width=device-width, initial-scale=1">',
      f'<title>{text(title)}</title>',
      f'<style>{style}</style>',
      '</head>',
      '<body>',
      body,
      '</body>',
      '</html>',
      '',
    ]
  )


def text(plain: str) -> Markup:
  """Plain text as HTML, on one line; HTML as it is."""
  if isinstance(plain, Markup):
    return plain
  return Markup(html.escape(printable(plain)) if plain else '')
