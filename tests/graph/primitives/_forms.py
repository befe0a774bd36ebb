"""All forms of all primitives."""

import sys

from jax.extend import core

from tests.graph.primitives import _binary as _binary
from tests.graph.primitives import _control as _control
from tests.graph.primitives import _indexing as _indexing
from tests.graph.primitives import _made as _made
from tests.graph.primitives import _products as _products
from tests.graph.primitives import _reductions as _reductions
from tests.graph.primitives import _scatters as _scatters
from tests.graph.primitives import _shapes as _shapes
from tests.graph.primitives import _unary as _unary
from tests.graph.primitives import _windows as _windows
from tests.graph.primitives._instances import FORMS as FORMS


def _known():
  """Names of the primitives that this version of JAX has."""
  modules = [module for name, module in list(sys.modules.items()) if name.startswith('jax')]
  values = (value for module in modules for value in list(vars(module).values()))
  return {value.name for value in values if isinstance(value, core.Primitive)}


KNOWN = _known()
