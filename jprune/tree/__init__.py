"""Canonical leaf paths, the selection of leaves, and exact sizes.

- which leaves: ``selected``, ``matching``, ``skipped``, ``default_where``, ``state_by_name``
- a tree: ``flatten``, ``path_string``, ``shapes``; another along it: ``along``, ``by_leaf``
- a leaf: ``size``, ``is_array``, ``is_floating``, ``is_complex``, ``is_inexact``, ``is_traced``

Every room names a leaf by the path that this one gives it, and walks a second tree (masks,
scores, sparsities) *along the params*: at each leaf of the params stands that tree's leaf,
``None`` included.
"""

from jprune.tree._along import along as along
from jprune.tree._along import by_leaf as by_leaf
from jprune.tree._paths import flatten as flatten
from jprune.tree._paths import is_array as is_array
from jprune.tree._paths import is_complex as is_complex
from jprune.tree._paths import is_floating as is_floating
from jprune.tree._paths import is_inexact as is_inexact
from jprune.tree._paths import is_traced as is_traced
from jprune.tree._paths import path_string as path_string
from jprune.tree._paths import shapes as shapes
from jprune.tree._paths import size as size
from jprune.tree._selected import matching as matching
from jprune.tree._selected import selected as selected
from jprune.tree._where import default_where as default_where
from jprune.tree._where import skipped as skipped
from jprune.tree._where import state_by_name as state_by_name

__all__ = [
  'along',
  'by_leaf',
  'default_where',
  'flatten',
  'is_array',
  'is_complex',
  'is_floating',
  'is_inexact',
  'is_traced',
  'matching',
  'path_string',
  'selected',
  'shapes',
  'size',
  'skipped',
  'state_by_name',
]
