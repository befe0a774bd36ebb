"""Weights that are quantised: what scales them stands in another leaf."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jprune.tree._names import Named, known

_NARROW = re.compile(r'float[48]|u?int([248]|32)$')
_SCALES = re.compile(r'(.*_)?scales?(_.+)?|(.*_)?absmax|scb')
_PACKED = re.compile(r'(.+_)?(weight|kernel)(_packed)?|qweight|(.+_)?blocks|_data|qvalue')


def scales_of(paths: Sequence[str], dtypes: Sequence[str | None]) -> list[str | None]:
  """For each leaf of quantised weights the path of what scales them; ``None`` for other leaves.

  Weights of 8 bits or fewer are quantised where scales stand beside them or below them
  (``l.weight`` with ``l.weight_scale`` or ``l.weight.absmax``); of 32-bit integers, into which
  smaller ones are packed, those called so.

  Args:
    paths: canonical leaf paths.
    dtypes: names of the dtypes; ``None`` for what is no array.
  """
  narrow = [bool(dtype and _NARROW.match(dtype)) for dtype in dtypes]
  if not any(narrow):
    return [None] * len(paths)
  found = [Named.of(path) for path in paths]
  scales: dict[tuple[str, ...], str] = {}
  for each, path in zip(found, paths):
    if _SCALES.fullmatch(each.name):
      scales.setdefault(each.group, path)
  out = []
  for each, dtype, yes in zip(found, dtypes, narrow):
    other = dtype in ('int32', 'uint32') and not _PACKED.fullmatch(each.name)
    if not yes or other or known(each.name, each.module):
      out.append(None)
    else:
      out.append(scales.get((*each.group, each.name)) or scales.get(each.group))
  return out
