"""``.. summary:: jprune.masks``: a table of the public names of a namespace."""

from __future__ import annotations

import importlib
import inspect

import public_names
from sphinx.ext.autosummary import Autosummary

KINDS = (inspect.ismodule, inspect.isclass)  # stand behind functions


class Summary(Autosummary):
  """Sphinx's own table, of the names that the namespace itself says are public."""

  required_arguments = 1
  has_content = False

  def run(self):
    """Called by docutils."""
    (namespace,) = self.arguments
    module = importlib.import_module(namespace)
    kind = lambda name: [check(getattr(module, name)) for check in KINDS]
    listed = sorted(public_names.names_of(module), key=kind)
    self.content = [f'~{namespace}.{name}' for name in listed]
    self.options['nosignatures'] = None
    return super().run()


def setup(app) -> dict:
  """Called by Sphinx."""
  app.setup_extension('sphinx.ext.autosummary')
  app.config.autosummary_generate = False
  app.add_directive('summary', Summary)
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
