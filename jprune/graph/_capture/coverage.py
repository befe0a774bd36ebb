"""What a survey found, leaf by leaf: uses that cover the leaf, or why there are none."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from jprune.graph._analysis.traced import Traced
from jprune.graph._capture.find_products import Survey
from jprune.graph._statistics.stats import Use
from jprune.graph._statistics.table import VECTORS


class Joint:
  """The static side of statistics.

  Attributes:
    sources: for each of the moments to return, the places of the inputs that it merges.
    uses: pairs of a path and its uses.
    skipped: pairs of a path and the reason.
    notes: pairs of a path and what else is done with the leaf.
  """

  def __init__(self, traced: Traced, survey: Survey) -> None:
    shapes = [leaf.shape for leaf in traced.leaves]
    covering = {i: _covering(_merged(found), shapes[i]) for i, found in survey.uses.items()}
    # in the order in which they run, for those who prune stage by stage
    self.sources = sorted({sources for uses, _ in covering.values() for _, sources in uses})
    self.uses: list[tuple[str, tuple[Use, ...]]] = []
    self.skipped: list[tuple[str, str]] = []
    self.notes: list[tuple[str, str]] = []
    for i, (uses, others) in covering.items():
      path, ends = traced.paths[i], list(dict.fromkeys(survey.ends[i]))
      ends += [f'a product in another form ({use.line})' for use in others]
      if uses:
        self.uses.append((path, tuple(self._numbered(use, sources) for use, sources in uses)))
        self.notes += [(path, f'also used by {end}') for end in ends]
        self.notes += [(path, f'its product multiplies by {each}') for each in _changed(survey, i)]
      else:
        self.skipped.append((path, _why(traced, survey, i, ends)))

  def _numbered(self, use: Use, sources: tuple[int, ...]) -> Use:
    return dataclasses.replace(use, source=self.sources.index(sources))


def _changed(survey: Survey, leaf: int) -> list[str]:
  return [f'something computed from it by {via}' for via in dict.fromkeys(survey.changed[leaf])]


def _why(traced: Traced, survey: Survey, leaf: int, ends: Sequence[str]) -> str:
  """Why nothing is known about a leaf."""
  if survey.uses[leaf]:
    return 'products use only parts of it, or parts that overlap'
  operands = [var for eqn in traced.frame.jaxpr.eqns for var in eqn.invars]
  used = any(var is traced.frame.jaxpr.invars[leaf] for var in operands)
  if not used:
    returned = any(var is traced.frame.jaxpr.invars[leaf] for var in traced.frame.jaxpr.outvars)
    return f'fn {"only returns" if returned else "does not use"} it'
  products = [end for end in ends if ': ' in end]
  if leaf in survey.vectors and not products:
    return f'{VECTORS}; it is used by {ends[0]}'
  plain = f'no product multiplies by it{"; it is used by " + ends[0] if ends else ""}'
  return products[0] if products else plain


def _merged(found: Sequence[Use]) -> list[tuple[Use, tuple[int, ...]]]:
  """Uses of one form as one, with the places of all their inputs: tied weights."""
  forms: dict[Use, tuple[Use, list[int]]] = {}
  for use in found:
    form = dataclasses.replace(use, source=0, line='', direct=True, loop=None, backwards=False)
    first, sources = forms.setdefault(form, (use, []))
    sources.append(use.source)
    if first.direct and not use.direct:
      forms[form] = (dataclasses.replace(first, direct=False), sources)
  return [(use, tuple(sorted(set(sources)))) for use, sources in forms.values()]


def _covering(
  forms: list[tuple[Use, tuple[int, ...]]], shape: Sequence[int]
) -> tuple[list[tuple[Use, tuple[int, ...]]], list[Use]]:
  """Forms whose boxes tile the leaf, and those that are left over."""
  whole = [form for form in forms if _volume(form[0]) == math.prod(shape)]
  if whole:
    return whole[:1], [use for use, _ in forms if use is not whole[0][0]]
  boxes = [use.box for use, _ in forms]
  apart = all(_disjoint(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
  if not forms or not apart or sum(_volume(use) for use, _ in forms) != math.prod(shape):
    return [], []
  one = _side_by_side(forms)
  return ([one] if one else forms), []


def _side_by_side(
  forms: list[tuple[Use, tuple[int, ...]]],
) -> tuple[Use, tuple[int, ...]] | None:
  """Slices along an axis of outputs that have the same inputs, as one use."""
  first, sources = forms[0]
  cuts = {
    axis for use, _ in forms for axis in range(len(use.box)) if use.box[axis] != first.box[axis]
  }
  if len(cuts) != 1 or any(other != sources for _, other in forms):
    return None
  (axis,) = cuts
  apart = [_without(use, axis) for use, _ in forms]
  if apart[0] is None or any(each != apart[0] for each in apart):
    return None
  low, high = min(u.box[axis][0] for u, _ in forms), max(u.box[axis][1] for u, _ in forms)
  shape, axes, batch, inputs, outputs = apart[0]
  place = sum(each < axis for each in axes)
  shift = lambda places: tuple(i + (i >= place) for i in places)
  return dataclasses.replace(
    first,
    direct=all(use.direct for use, _ in forms),
    box=(*first.box[:axis], (low, high), *first.box[axis + 1 :]),
    shape=(*shape[:place], high - low, *shape[place:]),
    axes=(*axes[:place], axis, *axes[place:]),
    batch=shift(batch),
    inputs=shift(inputs),
    outputs=tuple(sorted((*shift(outputs), place))),
  ), sources


def _without(use: Use, axis: int) -> tuple[tuple[int, ...], ...] | None:
  """Factors and roles less those of an axis of outputs; ``None`` if it has other roles."""
  mine = [i for i, each in enumerate(use.axes) if each == axis]
  if not set(mine) <= set(use.outputs):
    return None
  rest = [i for i in range(len(use.axes)) if i not in mine]
  renumbered = lambda places: tuple(rest.index(i) for i in places if i in rest)
  return (
    tuple(use.shape[i] for i in rest),
    tuple(use.axes[i] for i in rest),
    renumbered(use.batch),
    renumbered(use.inputs),
    renumbered(use.outputs),
  )


def _volume(use: Use) -> int:
  return math.prod(high - low for low, high in use.box)


def _disjoint(a: Sequence[tuple[int, int]], b: Sequence[tuple[int, int]]) -> bool:
  return any(high <= start or end <= low for (low, high), (start, end) in zip(a, b))
