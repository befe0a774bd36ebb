"""Weights that are quantised: what scales them stands in another leaf."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jprune.tree._names import Named, known

_NARROW = re.compile(r'float[48]|u?int([248]|32)$')
_PLAIN = re.compile(r'int8|float8_e[345]')
_SCALES = re.compile(r'(.*_)?[wq]?t?scales?(_.+)?|(.*_)?(absmax|scaling_factors?)|scb')
_PACKED = re.compile(r'(.+_)?(weight|kernel)(_packed)?|qweight|(.+_)?blocks|_data|qvalue')
_ENDING = re.compile(r'_(packed|blocks|q?data)$|qvalue$')  # of a leaf that its scales go without
_ZERO_POINTS = '_?(zero_?points?|[wq]?zeros?|zps?)'
_MORE = '_?(scale_2|global_scale|biases|shift|nested_absmax)'


class Quantised(NamedTuple):
  """What belongs to a leaf of quantised weights.

  Attributes:
    scales: path of the leaf that scales them.
    zero_points: path of the leaf that says which number stands for 0.0, if there is one.
    plain: whether each weight is a number by itself, that times its scale. Others are packed,
      scaled twice, shifted, or have scales whose name doesn't say how to take them.
  """

  scales: str
  zero_points: str | None
  plain: bool


def quantised(paths: Sequence[str], dtypes: Sequence[str | None]) -> list[Quantised | None]:
  """What scales the leaves of quantised weights; ``None`` for other leaves.

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
  groups: dict[tuple[str, ...], dict[str, str]] = {}
  for each, path in zip(found, paths):
    groups.setdefault(each.group, {}).setdefault(each.name, path)
  out: list[Quantised | None] = []
  for each, dtype, yes in zip(found, dtypes, narrow):
    other = dtype in ('int32', 'uint32') and not _PACKED.fullmatch(each.name)
    if not yes or other or known(each.name, each.module):
      out.append(None)
    else:
      below = groups.get((*each.group, each.name), {})
      out.append(_quantised(each.name, str(dtype), below, groups[each.group]))
  return out


def scales_of(paths: Sequence[str], dtypes: Sequence[str | None]) -> list[str | None]:
  """The scales alone of :func:`quantised`."""
  return [each and each.scales for each in quantised(paths, dtypes)]


def _quantised(
  name: str, dtype: str, below: Mapping[str, str], beside: Mapping[str, str]
) -> Quantised | None:
  """What belongs to one leaf, by the names below it and beside it."""
  stem = re.escape(_ENDING.sub('', name))
  own = [
    *_matching('_?scales?(_inv)?', below),
    *_matching(rf'{stem}_scale(_inv)?|scale_{stem}', beside),
    *_matching('scales?', beside),
  ]
  scales = [*own, *_matching(_SCALES, below), *_matching(_SCALES, beside)]
  if not scales:
    return None
  mine = lambda words: [*_matching(words, below), *_matching(rf'({stem})?{words}', beside)]
  zeros, more = mine(_ZERO_POINTS), mine(_MORE)
  plain = bool(_PLAIN.match(dtype) and own and not more and len(zeros) < 2)
  return Quantised(scales[0], zeros[0] if zeros else None, plain)


def _matching(words: str | re.Pattern[str], names: Mapping[str, str]) -> Iterable[str]:
  return (path for name, path in names.items() if re.fullmatch(words, name))
