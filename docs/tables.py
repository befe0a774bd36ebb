"""Columns of numbers stand to the right, in figures of one width."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.transforms import SphinxTransform

# A number first, if anything: '1.05', '2.51, 2.12', '0.10 to 0.14', '87 %', '1.1 ms'.
NUMBER = re.compile(r'(not run.*|-|[<~]?\s?[-+]?[\d.,]+\s?\S{0,3}((,|;| to) .*)?)?')


class AlignNumbers(SphinxTransform):
  """Marks the cells of columns that hold numbers alone, but for the names of rows."""

  default_priority = 500

  def apply(self, **kwargs) -> None:
    """Goes through all tables of a page."""
    for body in self.document.findall(nodes.tbody):
      rows = [list(row.findall(nodes.entry)) for row in body.findall(nodes.row)]
      if len({len(row) for row in rows}) != 1:
        continue
      head = list(next(body.parent.findall(nodes.row)).findall(nodes.entry))
      for title, column in list(zip(head, zip(*rows)))[1:]:
        texts = [cell.astext().strip() for cell in column]
        if any(texts) and all(NUMBER.fullmatch(text) for text in texts):
          for cell in {id(cell): cell for cell in (title, *column)}.values():
            cell['classes'] += ['text-right', 'number']


def setup(app) -> dict:
  """Called by Sphinx."""
  app.add_transform(AlignNumbers)
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
