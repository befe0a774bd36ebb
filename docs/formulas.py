"""Formulas as MathML, which browsers lay out by themselves: no script, no network."""

from __future__ import annotations

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


def _mathml(node: nodes.Element, *, as_block: bool) -> str:
  try:
    return tex2mathml(node.astext(), as_block=as_block)
  except MathError as error:
    LOGGER.warning('formula: %s', error, location=node)
    return ''


def inline(self, node) -> None:
  """Writes a formula in a line of text."""
  self.body.append(_mathml(node, as_block=False))
  raise nodes.SkipNode


def block(self, node) -> None:
  """Writes a formula on lines of its own, which scroll if they are too long."""
  self.body.append(f'<div class="math-wrapper">{_mathml(node, as_block=True)}</div>\n')
  raise nodes.SkipNode


def setup(app) -> dict:
  """Called by Sphinx."""
  app.add_html_math_renderer('mathml', (inline, None), (block, None))
  app.config.html_math_renderer = 'mathml'
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
