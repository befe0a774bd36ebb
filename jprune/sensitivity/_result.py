"""What :func:`run` did, step by step, as text, HTML, plain data and a plot."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jprune._text import html
from jprune._text.table import table, wrapped
from jprune._text.words import count, number, percent, plural, printable
from jprune.report import Tally, _saved
from jprune.sensitivity import _plot
from jprune.sensitivity._search import Search
from jprune.typing import Masks, Params

if TYPE_CHECKING:
  from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True)
class Step:
  """What was reached at one step of :func:`run`.

  Attributes:
    name: ``'dense'``, ``'pruned'`` or ``'fine-tuned'``.
    round: counted from 1; 0 for the dense params.
    size: weights of the selected leaves.
    pruned: how many of them are pruned.
    metric: on validation data.
    reset: pruned weights that fine-tuning returned as something else than 0; they were set to 0
      before the metric was measured.

  Examples:
    >>> params = {'w': jnp.arange(1.0, 11.0).reshape(2, 5)}
    >>> evaluate = lambda params: params['w'].sum()
    >>> jprune.sensitivity.run(evaluate, params, sparsity=0.4).steps[1]
    Step(name='pruned', round=1, size=10, pruned=4, metric=45.0, reset=0)
  """

  name: str
  round: int
  size: int
  pruned: int
  metric: float
  reset: int = 0

  @property
  def sparsity(self) -> float:
    """Fraction of zeros of the selected leaves."""
    return self.pruned / self.size if self.size else 0.0


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Result:
  """What :func:`run` did.

  ``str()`` is a report of at most 100 columns; notebooks show it as HTML.

  Attributes:
    params: the pruned params, exactly 0 where they are pruned.
    masks: their masks.
    steps: a :class:`Step` for each metric on validation data, the dense params first.
    thresholds: by leaf path, the lowest score that was kept in the last round: with these,
      :func:`jprune.masks.threshold` makes the same masks of those scores where none are equal (and
      with one round and the default pattern). ``inf`` where nothing was kept; ``None``, which stays
      dense there, for patterns without a single cut.
    tally: weights, bytes, multiply-adds, a :class:`jprune.report.Tally`.
    test_before: metric of the dense params on test data; ``None`` without.
    test_after: that of the pruned ones.
    min_metric: the floor, if there was one.
    search: how the sparsity was found, a :class:`Search`, if there was a floor.

  Examples:
    >>> params = {'w': jnp.arange(1.0, 11.0).reshape(2, 5)}
    >>> evaluate = lambda params: params['w'].sum()
    >>> result = jprune.sensitivity.run(evaluate, params, sparsity=0.4)
    >>> result.before, result.after, result.sparsity
    (55.0, 45.0, 0.4)
  """

  params: Params
  masks: Masks
  steps: tuple[Step, ...]
  thresholds: Mapping[str, float | None]
  tally: Tally
  test_before: float | None = None
  test_after: float | None = None
  min_metric: float | None = None
  search: Search | None = None

  @property
  def before(self) -> float:
    """Metric of the dense params on validation data."""
    return self.steps[0].metric

  @property
  def after(self) -> float:
    """Metric of the result on validation data."""
    return self.steps[-1].metric

  @property
  def sparsity(self) -> float:
    """Fraction of zeros of the selected leaves."""
    return self.steps[-1].sparsity

  @property
  def holds(self) -> bool | None:
    """Whether the result holds the floor on validation data; ``None`` without a floor."""
    return None if self.min_metric is None else self.after >= self.min_metric

  @property
  def summary(self) -> str:
    """The result in a sentence."""
    text = (
      f'{percent(self.sparsity, 1)} sparse: metric {number(self.before)} -> {number(self.after)}'
    )
    if self.test_before is not None:
      text += f', on test data {number(self.test_before)} -> {number(self.test_after)}'
    if self.min_metric is not None:
      text += f'; floor {number(self.min_metric)} {"held" if self.holds else "not held"}'
    return f'{text}.'

  def to_dict(self) -> dict[str, Any]:
    """Everything but params and masks, as plain, JSON-serialisable Python values.

    Returns:
      A dict with the fields, ``before``, ``after``, ``sparsity`` and ``holds``. JSON knows no
      infinity: such a threshold is ``'inf'``.
    """
    plain = lambda cut: cut if cut is None or math.isfinite(cut) else str(cut)
    steps = [{**dataclasses.asdict(step), 'sparsity': step.sparsity} for step in self.steps]
    return {
      'sparsity': self.sparsity,
      'before': self.before,
      'after': self.after,
      'test_before': self.test_before,
      'test_after': self.test_after,
      'min_metric': self.min_metric,
      'holds': self.holds,
      'steps': steps,
      'thresholds': {path: plain(cut) for path, cut in self.thresholds.items()},
      'search': None if self.search is None else self.search.to_dict(),
      'tally': self.tally.to_dict(),
    }

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the report; params and masks go to :func:`jprune.save`.

    Args:
      path: ``.json`` for what :meth:`to_dict` returns, ``.html`` for a page. A file of that name is
        replaced, once the new one is complete.

    Raises:
      ValueError: if the name ends in something else, or is that of a pipe or a device.
      FileNotFoundError: if the folder doesn't exist.
      TypeError: if ``path`` is no path.
    """
    page = lambda name: html.page(f'Pruned: {self.summary}', self._repr_html_())
    _saved.save(path, self.to_dict, page)

  def plot(self, ax: Axes | None = None) -> Axes:
    """Draws the metric after each step, the floor, and the metrics on test data.

    Args:
      ax: matplotlib axes to draw into; by default a new figure.

    Returns:
      The axes; ``axes.figure.savefig(...)`` writes them. Nothing is shown. ``tally.plot()`` and
      ``search.plot()`` draw the other parts.

    Raises:
      ImportError: if matplotlib isn't installed.
    """
    return _plot.draw_result(self, ax)

  def __str__(self) -> str:
    sentences = [line for text in (self.summary, *_notes(self)) for line in wrapped(text)]
    lines = [*sentences, '', *table(*_steps(self), words=(0, 1)), '']
    lines += [*table(*_thresholds(self)), '']
    if self.search is not None:
      lines += ['Search for the sparsity:', *str(self.search).split('\n'), '']
    return '\n'.join([*lines, str(self.tally)])

  def __repr__(self) -> str:
    return f'Result({self.summary[:-1]})'

  def _repr_html_(self) -> str:
    lines = [html.paragraph(line) for line in (self.summary, *_notes(self))]
    lines += ['<h3>Steps</h3>', html.table(*_steps(self), words=(0, 1))]
    lines += ['<h3>Thresholds</h3>', html.table(*_thresholds(self))]
    if self.search is not None:
      lines += ['<h3>Search for the sparsity</h3>', self.search._repr_html_()]
    return '\n'.join([*lines, '<h3>Tally</h3>', self.tally._repr_html_()])


def _steps(result: Result) -> tuple[list[str], list[list[str]]]:
  rows = [
    [
      step.name,
      str(step.round) if step.round else '',
      count(step.pruned),
      percent(step.pruned, step.size),
      number(step.metric),
    ]
    for step in result.steps
  ]
  if result.test_before is not None:
    first, last = result.steps[0], result.steps[-1]
    for name, step, metric in [
      ('dense, test', first, result.test_before),
      (f'{last.name}, test', last, result.test_after),
    ]:
      shown = [count(step.pruned), percent(step.pruned, step.size), number(metric)]
      rows.append([name, '', *shown])
  return ['step', 'round', 'pruned', 'sparsity', 'metric'], rows


def _thresholds(result: Result) -> tuple[list[str], list[list[str]]]:
  by_path = {row.path: row for row in result.tally.rows}
  rows = [
    [
      printable(path),
      count(by_path[path].size - by_path[path].nonzero),
      percent(by_path[path].size - by_path[path].nonzero, by_path[path].size),
      'none' if cut is None else number(cut),
    ]
    for path, cut in result.thresholds.items()
  ]
  return ['leaf', 'pruned', 'sparsity', 'threshold'], rows


def _notes(result: Result) -> list[str]:
  reset = sum(step.reset for step in result.steps)
  if not reset:
    return []
  weights = plural(reset, 'pruned weight')
  return [f'Fine-tuning returned {weights} that were not 0; set to 0 (see jprune.keep_pruned).']
