"""What sparse training did, step by step: kept while it runs, shown when it is over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune._entry import explicit
from jprune._text import html, table
from jprune._text.fold_paths import natural
from jprune._text.words import percent, plural, printable
from jprune.masks._in_state import metrics, states_in
from jprune.report import _errors, _history_plot

if TYPE_CHECKING:
  from matplotlib.axes import Axes

_HELD = 256  # entries that stay on the device before the older half is fetched
_SHOWN = 12  # rows of steps


class Recorder:
  """Sparsity and churn over the steps of a training run.

  A list that a loop fills, with no callback: :meth:`add` hands the device a few sums to do and
  doesn't wait for them. ``print`` shows a table, :meth:`plot` draws it, :meth:`to_dict` has the
  numbers. Of many agents or seeds under ``vmap`` each has its own; what is shown is their mean.

  Examples:
    >>> tx = jprune.transforms.gradual(
    ...   optax.sgd(0.1), jprune.schedules.linear(0.0, 0.75, begin=0, end=2), every=1
    ... )
    >>> params = {'kernel': jnp.array([[1.0, -3.0], [2.0, 0.5]])}
    >>> state, recorder = tx.init(params), Recorder()
    >>> for _ in range(3):
    ...   updates, state = tx.update(params, state, params)
    ...   params = optax.apply_updates(params, updates)
    ...   recorder.add(state)
    >>> print(recorder)
    step  sparsity   churn
    ----------------------
       1     0.00%   0.00%
       2    50.00%  50.00%
       3    75.00%  25.00%
    <BLANKLINE>
    leaf    first    last
    ---------------------
    kernel  0.00%  75.00%

    From a loop in ``lax.scan``, which stacks what its steps return:

    >>> def step(state, _):
    ...   _, state = tx.update(params, state, params)
    ...   return state, (jprune.transforms.metrics(state), state.count)
    >>> _, seen = jax.lax.scan(step, tx.init(params), length=4)
    >>> recorder = Recorder()
    >>> recorder.add(*seen)
    >>> [round(float(value), 2) for value in recorder.to_dict()['metrics']['sparsity']]
    [0.0, 0.5, 0.75, 0.75]
  """

  def __init__(self) -> None:
    self._counts: list[Any] = []
    self._entries: list[dict[str, Any]] = []
    self._agents: tuple[int, ...] | None = None
    self._fetched = 0

  @explicit
  def add(self, seen: Any, count: Any = None) -> None:
    """Notes what there is to see now; returns at once.

    Args:
      seen: a state, as for :func:`jprune.transforms.metrics`; or what that returned, within a
        step that is compiled. States of several agents are stacked along their first axis.
      count: the step; by default that of the state, else one more than the last. An array of steps
        goes with metrics of as many, stacked along their first axis.

    Raises:
      ValueError: if there are no masks in it, or shapes differ.
      TypeError: if an array is traced, or the count is no number.
    """
    _errors.check_count('Recorder.add', count)
    for leaf in jax.tree.leaves((seen, count)):
      if tree.is_traced(leaf):
        raise _checks.traced('Recorder.add', 'seen', None, leaf)
    if not (isinstance(seen, Mapping) and 'sparsity' in seen):
      own, seen = _read(states_in('Recorder.add', seen, 'seen'))
      count = own if count is None else count
    if count is None:
      count = 1 + (int(np.max(self._counts[-1])) if self._counts else 0)
    shape = np.shape(count)
    agents = np.shape(seen['sparsity'])[len(shape) :] if self._agents is None else self._agents
    _errors.check_recorded('Recorder.add', seen, (*shape, *agents))
    self._agents = agents
    # a step that donates its state would take the state's count away
    self._counts.append(jnp.copy(count) if isinstance(count, jax.Array) else count)
    self._entries.append(dict(seen))
    if len(self._entries) - self._fetched > _HELD:
      self._fetch(self._fetched + _HELD // 2)

  def _fetch(self, end: int) -> None:
    """Moves entries to the host; the first ones are long done, so nothing is waited for there."""
    places = slice(self._fetched, end)
    held = (self._counts[places], self._entries[places])
    self._counts[places], self._entries[places] = jax.device_get(held)
    self._fetched = end

  def to_dict(self) -> dict[str, Any]:
    """Everything as NumPy arrays.

    Returns:
      ``{'count': steps, 'metrics': {name: values}}``: as many values of each name as there are
      steps, along the first axis, NaN where there were none; of agents one along the next axis.
    """
    self._fetch(len(self._entries))
    counts = [np.asarray(count) for count in self._counts]
    names = sorted({name for entry in self._entries for name in entry}, key=natural)
    agents = self._agents or ()
    nothing = lambda count: np.full((*count.shape, *agents), np.nan, np.float32)
    rows = lambda count, value: np.reshape(value, (math.prod(count.shape), *agents))
    found = {
      name: [
        rows(count, entry[name] if name in entry else nothing(count))
        for count, entry in zip(counts, self._entries)
      ]
      for name in names
    }
    steps = np.concatenate([np.ravel(count) for count in counts]) if counts else np.zeros(0, int)
    return {'count': steps, 'metrics': {name: np.concatenate(x) for name, x in found.items()}}

  def plot(self, axes: Sequence[Axes] | None = None) -> tuple[Axes, Axes]:
    """Draws the sparsity of all leaves together and of each, and below it the churn, over steps.

    Leaves that are all pruned alike share one line. Of several agents lines are means, and bands go
    from the least to the most.

    Args:
      axes: two matplotlib axes to draw into; by default those of a new figure.

    Returns:
      The two axes; ``axes[0].figure.savefig(...)`` writes them. Nothing is shown.

    Raises:
      ImportError: if matplotlib isn't installed.
      ValueError: if nothing was recorded, or it isn't two axes.
    """
    if not self._entries:
      raise _errors.nothing_recorded('Recorder.plot')
    _errors.check_two('Recorder.plot', axes)
    return _history_plot.draw(self.to_dict(), axes)

  def __len__(self) -> int:
    return sum(math.prod(np.shape(count)) for count in self._counts)

  def __repr__(self) -> str:
    return f'Recorder({plural(len(self), "step")})'

  def __str__(self) -> str:
    if not self._entries:
      return 'nothing recorded'
    steps, leaves, note = self._tables()
    lines = [*table.table(*steps, words=()), '', *table.table(*leaves)]
    return '\n'.join([*lines, *(['', note] if note else [])])

  def _repr_html_(self) -> str:
    if not self._entries:
      return html.paragraph('nothing recorded')
    steps, leaves, note = self._tables()
    tables = [html.table(*steps, words=()), html.table(*leaves)]
    return '\n'.join([*tables, *([html.paragraph(note)] if note else [])])

  def _tables(self) -> tuple[Any, Any, str]:
    """Some of the steps, first and last among them; the leaves; and what they are means of."""
    found = self.to_dict()
    counts = found['count']
    means = {name: _mean(value) for name, value in found['metrics'].items()}
    columns = [name for name in ('sparsity', 'churn') if name in means]
    rows = [
      [f'{counts[i]:,}', *(_percent(means[name][i]) for name in columns)]
      for i in table.spread(len(counts), min(len(counts), _SHOWN))
    ]
    leaves = [
      [printable(name.partition('/')[2]), _percent(value[0]), _percent(value[-1])]
      for name, value in means.items()
      if name.startswith('sparsity/')
    ]
    note = f'Means over {plural(math.prod(self._agents), "agent")}.' if self._agents else ''
    return (['step', *columns], rows), (['leaf', 'first', 'last'], leaves), note


@jax.jit
def _read(states: Any) -> tuple[Any, dict[str, jax.Array]]:
  """The step of a state, if it counts them, and its metrics; for each of those that are stacked."""
  # an nnx.Optimizer puts each array in a box
  counts = [jax.tree.leaves(state.count)[0] for state in states if 'count' in state._fields]
  read = metrics
  for _ in range(counts[0].ndim if counts else 0):
    read = jax.vmap(read)
  return (jnp.max(counts[0]) if counts else None), read(states)


def _mean(values: np.ndarray) -> np.ndarray:
  return values.reshape(len(values), -1).mean(axis=1)


def _percent(share: float) -> str:
  return '' if math.isnan(share) else percent(share, 1)
