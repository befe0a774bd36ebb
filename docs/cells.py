"""Runs the Python blocks of pages at build time, so that pages show what they print.

The sources keep plain ``python`` fences, which read well anywhere. Here they become
cells of a notebook in Markdown, which myst-nb runs, each page in a process and a folder
of its own.
"""

from __future__ import annotations

import pathlib
import re

from docutils import nodes
from sphinx.transforms import SphinxTransform

FENCE = re.compile(r'^```python$', re.MULTILINE)
HEAD = """\
file_format: mystnb
kernelspec: {name: python3, language: python}
mystnb: {execution_in_temp: true}
"""


def as_notebook(text: str) -> str:
  """The text with its Python fences as cells; without fences it stays what it is."""
  if not FENCE.search(text):
    return text
  text = FENCE.sub('```{code-cell}', text)
  own = text.removeprefix('---\n')  # what a page says at its head stays there
  return f'---\n{HEAD}{own}' if own != text else f'---\n{HEAD}---\n{text}'


def read(app, docname: str, source: list[str]) -> None:
  """Sphinx's ``source-read``: changes the text in place."""
  if pathlib.Path(app.env.doc2path(docname)).suffix == '.md':
    source[0] = as_notebook(source[0])


class OnlyWhatIsPrinted(SphinxTransform):
  """Leaves out values of last lines, which notebooks show and programs don't."""

  default_priority = 500

  def apply(self, **kwargs) -> None:
    """Goes through the outputs of a page; pictures stay."""
    if pathlib.Path(self.env.doc2path(self.env.docname)).suffix != '.md':
      return
    for output in list(self.document.findall(nodes.container)):
      kinds = {
        each.get('mime_type') for each in output.children if hasattr(each, 'get')
      }
      if output.get('nb_element') == 'mime_bundle' and kinds == {'text/plain'}:
        output.parent.remove(output)


def spread(app, env, docnames: list[str]) -> None:
  """Deals the pages out: of neighbours, which one process gets, many take long."""
  docnames[:] = [name for first in range(8) for name in docnames[first::8]]


def setup(app) -> dict:
  """Called by Sphinx."""
  app.connect('env-before-read-docs', spread)
  app.connect('source-read', read)
  app.add_transform(OnlyWhatIsPrinted)
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
