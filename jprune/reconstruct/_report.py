"""What a repair did, leaf by leaf."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from jprune.reconstruct import _plot, _table

if TYPE_CHECKING:
  from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True)
class LeafRepair:
  r"""What was done to one leaf.

  Errors are relative and squared, :math:`\lVert X(W - W_0) \rVert_F^2 / \lVert X W_0 \rVert_F^2`
  over the captured rows of all products with the leaf: 0 if the outputs are what they were, 1 if
  they are as far off as with all weights zero.

  Attributes:
    path: of the leaf.
    shape: of the leaf.
    pruned: number of weights that are zero in its mask.
    error_before: with the mask on the dense weights, before any repair.
    error_after: with the repaired weights, as they are returned.
    damping: what was added to the diagonal of the Gram matrix, as a fraction of its mean; the
      most of any product.
    escalated: whether the matrix could not be factorised with the damping that was asked for.
    note: what else is worth knowing, such as other uses of the leaf, which the errors are not of;
      empty otherwise.

  Examples:
    >>> row = jprune.reconstruct.LeafRepair('w', (2, 4), 4, 0.5, 0.25, 0.01, False)
    >>> row.size, row.sparsity
    (8, 0.5)
  """

  path: str
  shape: tuple[int, ...]
  pruned: int
  error_before: float
  error_after: float
  damping: float
  escalated: bool
  note: str = ''

  @property
  def size(self) -> int:
    """Number of weights."""
    return math.prod(self.shape)

  @property
  def sparsity(self) -> float:
    """Fraction of zeros, in [0, 1]."""
    return self.pruned / self.size if self.size else 0.0


@dataclasses.dataclass(frozen=True, repr=False)
class Repair:
  """The report of a repair; ``print`` shows a table as wide as the terminal, notebooks HTML.

  Attributes:
    method: the function that made it.
    rows: a :class:`LeafRepair` for each leaf that was worked on, in tree order.
    skipped: pairs of a path and the reason, for all other leaves.
    passes: how often :func:`prune` ran the model over all batches, by multiply-adds; 0 where
      statistics were given.
    peak_bytes: the most memory that :func:`prune` saw in use on a device of this process, whatever
      holds it; 0 where it wasn't looked at.
    peak_source: what said so: the allocator of the device, or, where there is none, the arrays that
      were alive after each stage, which workspaces of programs are not among.

  Examples:
    >>> row = jprune.reconstruct.LeafRepair('w', (2, 4), 4, 0.5, 0.25, 0.01, False)
    >>> report = jprune.reconstruct.Repair('sparsegpt', (row,), (('b', 'not selected'),))
    >>> report['w'].error_after
    0.25
    >>> print(report)
    leaf           size  pruned  sparsity  error masked  error repaired  damping
    ----------------------------------------------------------------------------
    w                 8       4    50.00%           0.5            0.25     0.01
    ----------------------------------------------------------------------------
    total, 1 leaf     8       4    50.00%
    <BLANKLINE>
    By sparsegpt. Errors: squared, of the outputs, relative to those of the dense leaf.
    Skipped:
      not selected (1): b
  """

  method: str
  rows: tuple[LeafRepair, ...]
  skipped: tuple[tuple[str, str], ...] = ()
  passes: float = 0.0
  peak_bytes: int = 0
  peak_source: str = ''

  def __getitem__(self, path: str) -> LeafRepair:
    for row in self.rows:
      if row.path == path:
        return row
    raise KeyError(path)

  def __str__(self) -> str:
    return _table.text(self)

  def __repr__(self) -> str:
    return f'<Repair: {_table.summary(self)}>'

  def _repr_html_(self) -> str:
    return _table.html(self)

  def plot(self, ax: Axes | None = None) -> Axes:
    """Draws for each leaf the error of its outputs, with its mask alone and after the repair.

    Args:
      ax: matplotlib axes to draw into; by default a new figure, as high as the leaves need.

    Returns:
      The axes; ``axes.figure.savefig(...)`` writes them. Nothing is shown.

    Raises:
      ImportError: if matplotlib isn't installed.
    """
    return _plot.draw(self, ax)

  def to_dict(self) -> dict[str, Any]:
    """Everything as plain, JSON-serialisable Python values.

    Returns:
      ``{'method': ..., 'leaves': [...], 'skipped': {path: reason}, 'passes': ...}`` and what is
      known of the memory; each leaf with the attributes and properties of its :class:`LeafRepair`.
    """
    rows = [
      dataclasses.asdict(row)
      | {'shape': list(row.shape), 'size': row.size, 'sparsity': row.sparsity}
      for row in self.rows
    ]
    skipped, known = (
      dict(self.skipped),
      {'peak_bytes': self.peak_bytes, 'peak_source': self.peak_source},
    )
    out = {'method': self.method, 'leaves': rows, 'skipped': skipped, 'passes': self.passes}
    return out | known
