"""What was measured: the metric by group and sparsity."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jprune._text.words import number, plural
from jprune.sensitivity import _errors, _plot, _text

if TYPE_CHECKING:
  from matplotlib.axes import Axes

_VERSION = 1
_SAME = 1e-6


@dataclasses.dataclass(frozen=True)
class Curve:
  """How the metric falls as one group is pruned, all others left dense.

  Attributes:
    name: of the group; of a leaf by itself its path.
    leaves: paths of the leaves that are changed.
    sizes: what may be pruned: weights by leaf path, or channels by the name of their group.
    pruned: by the same names, how many were pruned at each sparsity.
    metrics: at each sparsity.

  Examples:
    >>> params = {'a': jnp.array([[3.0, 1.0]] * 2), 'b': jnp.array([[2.0, 0.5]] * 2)}
    >>> evaluate = lambda params: (params['a'] + params['b']).sum() / 2
    >>> curve = jprune.sensitivity.curves(evaluate, params, [0.0, 0.5]).curves[0]
    >>> curve.name, curve.pruned, curve.metrics
    ('a', {'a': (0, 2)}, (6.5, 5.5))
  """

  name: str
  leaves: tuple[str, ...]
  sizes: Mapping[str, int]
  pruned: Mapping[str, tuple[int, ...]]
  metrics: tuple[float, ...]

  @property
  def size(self) -> int:
    """Weights, or channels, of the group."""
    return sum(self.sizes.values())

  def pruned_at(self, point: int) -> int:
    """How many weights, or channels, were pruned at a point.

    Args:
      point: place in the measured sparsities.

    Returns:
      A Python int.
    """
    return sum(counts[point] for counts in self.pruned.values())


@dataclasses.dataclass(frozen=True, repr=False)
class Sensitivity:
  """The metric of each group pruned alone, at each sparsity.

  ``str()`` is a table of at most 100 columns; notebooks show it as HTML.

  Attributes:
    curves: a :class:`Curve` for each group, in tree order.
    sparsities: at which was measured, ascending.
    baseline: metric of the dense params.
    size: number of weights of all params, those not measured included.
    unit: what is counted: ``'weights'``, or ``'channels'`` of channel groups.
    pattern: which weights went together, as text; empty for channel groups.
    scorer: what the scorer is called, with the plain values that were bound to it.

  Examples:
    >>> params = {'a': jnp.array([[3.0, 1.0]] * 2), 'b': jnp.array([[2.0, 0.5]] * 2)}
    >>> evaluate = lambda params: (params['a'] + params['b']).sum() / 2
    >>> sensitivity = jprune.sensitivity.curves(evaluate, params, [0.0, 0.5, 1.0])
    >>> sensitivity.metrics
    ((6.5, 5.5, 2.5), (6.5, 6.0, 4.0))
    >>> sensitivity.ranking()[0][0], sensitivity.at(0.5)
    ('a', {'a': 5.5, 'b': 6.0})
  """

  curves: tuple[Curve, ...]
  sparsities: tuple[float, ...]
  baseline: float
  size: int
  unit: str = 'weights'
  pattern: str = 'Unstructured()'
  scorer: str = ''

  @property
  def names(self) -> tuple[str, ...]:
    """Names of the groups."""
    return tuple(curve.name for curve in self.curves)

  @property
  def metrics(self) -> tuple[tuple[float, ...], ...]:
    """Groups by sparsities."""
    return tuple(curve.metrics for curve in self.curves)

  @property
  def drops(self) -> tuple[tuple[float, ...], ...]:
    """``baseline - metric``, groups by sparsities; negative where pruning helped."""
    return tuple(tuple(self.baseline - m for m in curve.metrics) for curve in self.curves)

  def at(self, sparsity: float) -> dict[str, float]:
    """The metric at one of the sparsities, for each leaf path (or name of a channel group).

    Args:
      sparsity: one of ``sparsities``, to within 1e-6; of several the nearest.

    Returns:
      A dict; each leaf of a group has the metric of the group.

    Raises:
      ValueError: if nothing was measured there.
      TypeError: if it is no number.
    """
    asked = _errors.finite_number('at', 'sparsity', sparsity)
    gaps = [abs(asked - each) for each in self.sparsities]
    point = gaps.index(min(gaps))
    if gaps[point] > _SAME:  # .1 in float32, or 3 * .1, is not .1
      raise _errors.not_measured('at', sparsity, self.sparsities)
    return {name: curve.metrics[point] for curve in self.curves for name in curve.sizes}

  def ranking(self) -> list[tuple[str, float]]:
    """Groups with their mean drop over the sparsities, the most sensitive first.

    Returns:
      Pairs ``(name, mean of baseline - metric)``; of equal ones the first in tree order first.
    """
    mean = lambda drops: sum(drops) / len(drops)
    found = [(curve.name, mean(drops)) for curve, drops in zip(self.curves, self.drops)]
    return sorted(found, key=lambda pair: -pair[1])

  def to_dict(self) -> dict[str, Any]:
    """Everything as plain, JSON-serialisable Python values.

    Returns:
      A dict that :meth:`from_dict` reads.
    """
    rows = [dataclasses.asdict(curve) for curve in self.curves]
    for row in rows:
      row['leaves'], row['metrics'] = list(row['leaves']), list(row['metrics'])
      row['pruned'] = {name: list(counts) for name, counts in row['pruned'].items()}
    return {
      'version': _VERSION,
      'sparsities': list(self.sparsities),
      'baseline': self.baseline,
      'size': self.size,
      'unit': self.unit,
      'pattern': self.pattern,
      'scorer': self.scorer,
      'curves': rows,
    }

  @classmethod
  def from_dict(cls, data: Mapping[str, Any]) -> Sensitivity:
    """The inverse of :meth:`to_dict`.

    Args:
      data: what :meth:`to_dict` returned, also after a round trip through JSON.

    Returns:
      An equal :class:`Sensitivity`.

    Raises:
      ValueError: if it is something else.
    """
    try:
      if data['version'] != _VERSION:
        raise _errors.foreign_dict('from_dict', f'version {data["version"]!r}')
      found = cls(
        tuple(_curve(row) for row in data['curves']),
        tuple(map(float, data['sparsities'])),
        float(data['baseline']),
        int(data['size']),
        str(data['unit']),
        str(data.get('pattern', cls.pattern)),
        str(data.get('scorer', cls.scorer)),
      )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
      raise _errors.foreign_dict('from_dict', f'{type(error).__name__}: {error}') from None
    if fault := _fault(found):
      raise _errors.foreign_dict('from_dict', fault)
    return found

  def plot(self, ax: Axes | None = None) -> Axes:
    """Draws a line for each group: the metric over its sparsity, and the dense metric.

    Args:
      ax: matplotlib axes to draw into; by default a new figure.

    Returns:
      The axes; ``axes.figure.savefig(...)`` writes them. Nothing is shown. The legend names the
      most sensitive groups; where there are many, the rest is grey.

    Raises:
      ImportError: if matplotlib isn't installed.
    """
    return _plot.draw_curves(self, ax)

  def __str__(self) -> str:
    return _text.sensitivity_text(self)

  def __repr__(self) -> str:
    groups, points = plural(len(self.curves), 'group'), len(self.sparsities)
    sparsities = f'{points} sparsit{"y" if points == 1 else "ies"}'
    return f'Sensitivity({groups} at {sparsities}, {number(self.baseline)} dense)'

  def _repr_html_(self) -> str:
    return _text.sensitivity_html(self)


def _curve(row: Mapping[str, Any]) -> Curve:
  return Curve(
    str(row['name']),
    tuple(map(str, row['leaves'])),
    {name: int(n) for name, n in row['sizes'].items()},
    {name: tuple(map(int, counts)) for name, counts in row['pruned'].items()},
    tuple(map(float, row['metrics'])),
  )


def _fault(found: Sensitivity) -> str:
  """What of plain data can't have been measured; nothing, as a rule."""
  points = found.sparsities
  if not points or list(points) != sorted({s for s in points if 0 <= s <= 1}):
    return f'sparsities {list(points)}, which do not ascend in [0, 1]'
  for curve in found.curves:
    numbers = [curve.metrics, *curve.pruned.values()]
    if curve.pruned.keys() != curve.sizes.keys() or any(len(n) != len(points) for n in numbers):
      return f"other numbers of points for '{curve.name}'"
    if not all(0 <= n <= curve.sizes[k] for k, counts in curve.pruned.items() for n in counts):
      return f"counts of pruned {found.unit} for '{curve.name}' that are impossible"
    if not all(map(math.isfinite, curve.metrics)):
      return f"metrics of '{curve.name}' that are not finite"
  return '' if math.isfinite(found.baseline) else f'a baseline of {found.baseline}'
