"""Sparsities that meet a budget: a mapping by leaf, and a distribution."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar

from jprune import _checks, tree
from jprune._text import html
from jprune._text.table import table, wrapped
from jprune._text.words import count, number, percent, plural, printable
from jprune.distributions._common import competing
from jprune.sensitivity import _errors, _text
from jprune.typing import Params, Scores, Sparsities

_NAME = 'allocation'


@dataclasses.dataclass(frozen=True)
class Share:
  """What one group contributes to an :class:`Allocation`.

  Attributes:
    name: of the group; of a leaf by itself its path.
    size: its weights, or channels.
    pruned: how many of them go.
    sparsity: the measured one that was chosen; 0.0 if the group stays dense.
    drop: ``baseline - metric`` there, the group pruned alone; negative where pruning helped.

  Examples:
    >>> params = {'a': jnp.array([[3.0, 1.0]] * 2), 'b': jnp.array([[2.0, 0.5]] * 2)}
    >>> evaluate = lambda params: (params['a'] + params['b']).sum() / 2
    >>> found = jprune.sensitivity.curves(evaluate, params, [0.0, 0.5, 1.0])
    >>> jprune.sensitivity.allocate(found, sparsity=0.5).rows[0]
    Share(name='a', size=4, pruned=2, sparsity=0.5, drop=1.0)
  """

  name: str
  size: int
  pruned: int
  sparsity: float
  drop: float


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Allocation(Mapping[str, float]):
  """A sparsity for each leaf (or channel group), as :func:`allocate` chose it.

  A mapping from leaf path to sparsity, which :func:`jprune.masks.top_k` and
  :func:`jprune.distributions.fixed` take; and a distribution: in
  ``jprune.prune(params, distribution=allocation)`` each leaf gets its sparsity. With an overall
  ``sparsity`` besides, exactly ``round(sparsity * size)`` weights of all selected leaves go (with
  the default pattern): all leaves' sparsities are scaled down by one factor, or, if more must go,
  their densities. Leaves that were not measured stay dense. :func:`jprune.prune` and :func:`run`
  refuse another pattern than the one it was measured with; scores are up to you: pass the scorer
  that you measured with.

  An allocation over channel groups maps group names to fractions of channels, for
  :func:`jprune.masks.channels`; it is no distribution over leaves.

  Attributes:
    sparsities: by leaf path, or by name of the channel group.
    rows: a :class:`Share` for each group, in tree order.
    loss: sum of the drops ``baseline - metric`` of all groups, each pruned alone: the prediction.
    bound: no choice that meets the budget has a smaller sum.
    exact: whether the choice is proven to be the best one; else ``bound`` says how far off it is.
    metric: ``baseline - loss``.
    budget: what was asked for, in words.
    unit: what is counted in rows: ``'weights'`` or ``'channels'``.
    pattern: the pattern with which it was measured, as text; empty for channel groups.
    scorer: the name of the scorer with which it was measured.

  Examples:
    >>> params = {'a': jnp.array([[3.0, 1.0]] * 2), 'b': jnp.array([[2.0, 0.5]] * 2)}
    >>> evaluate = lambda params: (params['a'] + params['b']).sum() / 2
    >>> found = jprune.sensitivity.curves(evaluate, params, [0.0, 0.5, 1.0])
    >>> allocation = jprune.sensitivity.allocate(found, sparsity=0.5)
    >>> dict(allocation), allocation.loss
    ({'a': 0.5, 'b': 0.5}, 1.5)
    >>> jprune.prune(params, distribution=allocation)['b']
    Array([[ True, False],
           [ True, False]], dtype=bool)
  """

  sparsities: Mapping[str, float]
  rows: tuple[Share, ...]
  loss: float
  bound: float
  exact: bool
  metric: float
  budget: str
  unit: str = 'weights'
  pattern: str = 'Unstructured()'
  scorer: str = ''
  needs_scores: ClassVar[bool] = False  # as :class:`jprune.typing.Distribution` has it

  def __getitem__(self, path: str) -> float:
    return self.sparsities[path]

  def __iter__(self) -> Iterator[str]:
    return iter(self.sparsities)

  def __len__(self) -> int:
    return len(self.sparsities)

  def __call__(self, params: Params, scores: Scores, sparsity: float | None = None) -> Sparsities:
    """As a distribution.

    Args:
      params: tree of arrays or shape structs.
      scores: tree of that structure and those shapes; ``None`` where a leaf stays dense.
      sparsity: fraction of zeros over all scored leaves, in [0, 1]; by default the sparsities are
        taken as they are.

    Returns:
      A float for each leaf, ``None`` for leaves that stay dense.

    Raises:
      ValueError: if a path names no leaf or one without scores, or the sparsity is out of range.
      TypeError: if the allocation is one over channel groups, or the sparsity is traced.
    """
    if self.unit != 'weights':
      raise _errors.not_leaves(_NAME)
    found, treedef = competing(_NAME, params, scores)
    paths, _, _ = tree.flatten(params)
    if unknown := [path for path in self if path not in set(paths)]:
      raise _checks.unknown_paths(_NAME, 'sparsities', unknown, paths)
    sizes = {path: tree.size(x) for path, x in zip(paths, found) if x is not None}
    if missing := [path for path in self if path not in sizes]:
      raise _checks.not_scored(_NAME, 'sparsities', missing[0])
    chosen = dict(self.sparsities)
    if sparsity is not None:
      overall = _checks.static_fraction(_NAME, 'sparsity', sparsity)
      need, most = round(overall * sum(sizes.values())), sum(sizes[path] for path in self)
      if need > most:
        raise _errors.allocation_unreachable(_NAME, overall, most / sum(sizes.values()))
      chosen = _scaled(chosen, sizes, need)
    return treedef.unflatten([chosen.get(path) for path in paths])

  def to_dict(self) -> dict[str, Any]:
    """Everything as plain, JSON-serialisable Python values.

    Returns:
      A dict with the fields; rows are dicts too.
    """
    fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    rows = [dataclasses.asdict(row) for row in self.rows]
    return {**fields, 'sparsities': dict(self.sparsities), 'rows': rows}

  def _cells(self) -> tuple[list[str], list[list[str]]]:
    line = lambda name, size, pruned, drop: [
      name,
      count(size),
      count(pruned),
      percent(pruned, size),
      number(drop),
    ]
    rows = [line(printable(row.name), row.size, row.pruned, row.drop) for row in self.rows]
    size, pruned = (sum(getattr(row, name) for row in self.rows) for name in ('size', 'pruned'))
    total = line(f'total, {plural(len(rows), "group")}', size, pruned, self.loss)
    return ['group', self.unit, 'pruned', 'sparsity', 'drop'], [*rows, total]

  def _sentence(self) -> str:
    how = 'the least possible' if self.exact else f'at least {number(self.bound)} is needed'
    what = f'{self.budget}{_text.by_pattern(self.pattern)}'
    return f'For {what}: predicted drop {number(self.loss)} ({how}), metric {number(self.metric)}.'

  def __str__(self) -> str:
    return '\n'.join([*table(*self._cells()), '', *wrapped(self._sentence())])

  def __repr__(self) -> str:
    return f'Allocation({plural(len(self.rows), "group")}, {self._sentence()[:-1]})'

  def _repr_html_(self) -> str:
    return '\n'.join([html.table(*self._cells()), html.paragraph(self._sentence())])


def _scaled(
  sparsities: Mapping[str, float], sizes: Mapping[str, int], need: int
) -> dict[str, float]:
  """The same sparsities, or densities, times one factor, so that exactly ``need`` weights go."""
  wanted = {path: Fraction(s) * sizes[path] for path, s in sparsities.items()}
  planned, most = sum(wanted.values()), sum(sizes[path] for path in sparsities)
  if need <= planned:
    factor = Fraction(need) / planned if planned else Fraction(0)
    exact = {path: n * factor for path, n in wanted.items()}
  else:
    factor = Fraction(most - need) / (most - planned)
    exact = {path: sizes[path] - (sizes[path] - n) * factor for path, n in wanted.items()}
  whole = {path: n.numerator // n.denominator for path, n in exact.items()}
  # the rest goes where rounding down took most; of equal ones to the first
  last = sorted(exact, key=lambda path: whole[path] - exact[path])
  for path in last[: need - sum(whole.values())]:
    whole[path] += 1
  return {path: n / sizes[path] if sizes[path] else 0.0 for path, n in whole.items()}
