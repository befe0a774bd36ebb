"""Numbers stay beside their units, pictures without a ground stay bare in the dark."""

from __future__ import annotations

import pathlib
import re

import PIL.Image
from docutils import nodes
from sphinx.transforms import SphinxTransform

UNIT = re.compile(r'(?<=\d) (?=(?:%|[kMGT]i?B|ms|µs|s|h|x)(?:\W|$))')


class KeepUnits(SphinxTransform):
  """No line ends between a number and its unit."""

  default_priority = 500

  def apply(self, **kwargs) -> None:
    """Goes through the prose of a page; code is what it is."""
    for text in list(self.document.findall(nodes.Text)):
      code = nodes.FixedTextElement | nodes.literal | nodes.raw
      if not isinstance(text.parent, code):
        joined = UNIT.sub('\N{NO-BREAK SPACE}', text)
        if joined != text:
          text.parent.replace(text, nodes.Text(joined))


class NameTransparent(SphinxTransform):
  """Marks pictures without a ground of their own, which need no card in the dark."""

  default_priority = 500

  def apply(self, **kwargs) -> None:
    """Goes through the pictures of a page and of what its cells gave."""
    folder = pathlib.Path(self.env.doc2path(self.env.docname)).parent
    for image in self.document.findall(nodes.image):
      path = folder / image['uri']
      if path.suffix == '.png' and path.exists() and transparent(path):
        image['classes'] += ['transparent']


def transparent(path: pathlib.Path) -> bool:
  """Whether the first corner of a picture shows what it lies on."""
  with PIL.Image.open(path) as picture:
    corner = picture.convert('RGBA').crop((0, 0, 1, 1))
    return corner.getchannel('A').getextrema() == (0, 0)


def setup(app) -> dict:
  """Called by Sphinx."""
  app.add_transform(KeepUnits)
  app.add_transform(NameTransparent)
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
