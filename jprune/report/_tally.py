"""How many weights and bytes a pruned model takes, leaf by leaf."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jprune.graph import MacCount
from jprune.masks._storage import Storage, header_bytes
from jprune.report import _errors, _metrics, _page, _plot, _saved, _table
from jprune.report._leaf import (
  LeafTally,
  bytes_shrunk,
  fraction_of_zeros,
  ratio_of_bytes,
  ratios,
)

if TYPE_CHECKING:
  from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True, repr=False)
class Tally(Mapping[str, LeafTally]):
  """The tally of a tree: its leaves, and totals over them (Python ints, exact at any size).

  ``str()`` is an aligned table as wide as the terminal; notebooks show it as HTML. By path it is a
  mapping: ``report['dense/kernel']`` is the :class:`LeafTally` of one leaf, and
  ``report.under('dense')`` the tally of a module.

  Attributes:
    rows: one :class:`LeafTally` for each leaf, in tree order.
    macs: multiply-adds of the function, a :class:`jprune.graph.MacCount`; ``None`` without one.

  Examples:
    >>> params = {'w': jnp.ones((2, 2)), 'b': jnp.ones(2)}
    >>> tally = jprune.tally(params, {'w': jnp.eye(2, dtype=bool), 'b': None})
    >>> tally.size, tally.nonzero, list(tally)
    (6, 4, ['b', 'w'])
    >>> tally['w'].sparsity
    0.5
  """

  rows: tuple[LeafTally, ...]
  macs: MacCount | None = None

  @functools.cached_property
  def _by_path(self) -> dict[str, LeafTally]:
    return {row.path: row for row in self.rows}

  def __getitem__(self, path: str) -> LeafTally:
    try:
      return self._by_path[path]
    except (KeyError, TypeError):
      raise KeyError(_errors.words_no_leaf(path, list(self._by_path))) from None

  def __contains__(self, path: object) -> bool:
    return path in self._by_path  # without the words for what isn't there, which take long to find

  def get(self, path: str, default: Any = None) -> Any:
    """One leaf, or else the default."""
    return self._by_path.get(path, default)

  def __iter__(self) -> Iterator[str]:
    return iter(self._by_path)

  def __len__(self) -> int:
    return len(self._by_path)

  def under(self, prefix: str) -> Tally:
    """The tally of a part of the tree: of all leaves whose paths begin with these keys.

    Args:
      prefix: one or more keys, such as ``'encoder'`` or ``'encoder/layers_0'``; dotted where the
        paths are.

    Returns:
      A :class:`Tally` of these leaves, which keep their whole paths; of a function with the
      multiply-adds of the products that multiply by them.

    Raises:
      KeyError: if there are none.

    Examples:
      >>> params = {'encoder': {'w': jnp.eye(2), 'b': jnp.ones(2)}, 'head': jnp.ones(2)}
      >>> encoder = jprune.tally(params).under('encoder')
      >>> encoder.size, encoder['encoder/w'].sparsity
      (6, 0.5)
    """
    rows = tuple(row for row in self.rows if _is_under(row.path, prefix))
    if not rows:
      raise KeyError(_errors.words_no_leaf(prefix, list(self._by_path)))
    if self.macs is None:
      return Tally(rows)
    paths = {row.path for row in rows}
    here = lambda found: {path: each for path, each in found.items() if path in paths}
    equations = tuple(each for each in self.macs.equations if each.leaf in paths)
    of_leaves = {'leaves': here(self.macs.leaves), 'shapes': here(self.macs.shapes)}
    return Tally(rows, dataclasses.replace(self.macs, equations=equations, **of_leaves))

  @property
  def size(self) -> int:
    """Number of weights in all."""
    return sum(row.size for row in self.rows)

  @property
  def nonzero(self) -> int:
    """Number of kept (without masks: nonzero) weights in all."""
    return sum(row.nonzero for row in self.rows)

  @property
  def bytes_dense(self) -> int:
    """Bytes of all values."""
    return sum(row.bytes_dense for row in self.rows)

  @property
  def bytes_stored(self) -> int:
    """Bytes with every leaf in its smallest stored format, without the file's header."""
    return sum(row.bytes_stored for row in self.rows)

  @property
  def bytes_file(self) -> int:
    """About the size of the file: ``bytes_stored`` and an estimate of the header."""
    arrays = [(row, row.shape) for row in self.rows if row.shape is not None]
    storages = [Storage(row.format, row.bytes_stored) for row, _ in arrays]
    shapes = [shape for _, shape in arrays]
    return self.bytes_stored + header_bytes([row.path for row, _ in arrays], shapes, storages)

  @property
  def size_shrunk(self) -> int | None:
    """Number of weights without the channels that are wholly pruned; ``None`` without ``fn``."""
    if self.macs is None:
      return None
    return sum(math.prod(row.shape_shrunk or ()) for row in self.rows)

  @property
  def bytes_shrunk(self) -> int | None:
    """Bytes of their values; ``None`` without ``fn``."""
    return None if self.macs is None else sum(bytes_shrunk(row) for row in self.rows)

  @property
  def sparsity(self) -> float:
    """Fraction of zeros over all weights, in [0, 1]."""
    return fraction_of_zeros(self.size, self.nonzero)

  @property
  def compression(self) -> float:
    """Dense bytes over stored bytes: 1.0 if there are none, ``inf`` if nothing is stored."""
    return ratio_of_bytes(self.bytes_dense, self.bytes_stored)

  @property
  def skipped(self) -> tuple[tuple[str, str], ...]:
    """Pairs of the path of a leaf of which nothing was pruned and the reason, in tree order."""
    return tuple((row.path, row.skipped) for row in self.rows if row.skipped is not None)

  @property
  def emptied(self) -> tuple[LeafTally, ...]:
    """The leaves that have weights, all of them pruned (without masks: zero), in tree order."""
    return tuple(row for row in self.rows if row.size and not row.nonzero)

  def to_dict(self) -> dict[str, Any]:
    """Everything as plain, JSON-serialisable Python values (an infinite ratio is ``None``).

    Returns:
      ``{'leaves': [...], 'total': {...}, 'skipped': {path: reason}}`` and ``'emptied'``, a list of
      paths; of a function also ``'macs'``, as :meth:`jprune.graph.MacCount.to_dict` has
      them.
    """
    fields = ['size', 'nonzero', 'bytes_dense', 'bytes_stored', 'bytes_file']
    fields += [] if self.macs is None else ['size_shrunk', 'bytes_shrunk']
    macs = {} if self.macs is None else {'macs': self.macs.to_dict()}
    return {
      'leaves': [row.to_dict() for row in self.rows],
      'total': {**{name: getattr(self, name) for name in fields}, **ratios(self)},
      'skipped': dict(self.skipped),
      'emptied': [row.path for row in self.emptied],
      **macs,
    }

  def metrics(self) -> dict[str, float | int]:
    """Its numbers by name, for any logger; within a compiled step :func:`metrics` has them.

    Returns:
      A flat dict of Python numbers: ``'sparsity'``, ``'size'``, ``'nonzero'``, ``'bytes_dense'``,
      ``'bytes_stored'``, ``'compression'`` (infinite if nothing is stored), and
      ``'sparsity/<path>'`` of each leaf that has a mask; without masks, of each leaf. Of a function
      also ``'macs_dense'`` and, with masks, ``'macs_sparse'``, ``'macs_shrunk'``,
      ``'size_shrunk'`` and ``'bytes_shrunk'``.

    Examples:
      >>> jprune.tally({'w': jnp.eye(4)}).metrics()['sparsity/w']
      0.75
    """
    return _metrics.metrics_of(self)

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the report; params and masks go to :func:`jprune.save`.

    Args:
      path: ``.json`` for what :meth:`to_dict` returns, ``.html`` for a page with bars by kind and
        by layer, a histogram of sparsities and the table, titled by its name; nothing on it is from
        elsewhere. A file of that name is replaced, once the new one is complete.

    Raises:
      ValueError: if the name ends in something else, or is that of a pipe or a device.
      FileNotFoundError: if the folder doesn't exist.
      TypeError: if ``path`` is no path.

    Examples:
      >>> import os, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...   jprune.tally({'w': jnp.eye(4)}).save(os.path.join(folder, 'eye.html'))
      ...   os.listdir(folder)
      ['eye.html']
    """
    _saved.save(path, self.to_dict, lambda name: _page.page(self, name))

  def plot(self, ax: Axes | None = None) -> Axes:
    """Draws a bar for each leaf: which share of its weights is kept, pruned, or skipped.

    Args:
      ax: matplotlib axes to draw into; by default a new figure, as high as the leaves need.

    Returns:
      The axes; ``axes.figure.savefig(...)`` writes them. Nothing is shown.

    Raises:
      ImportError: if matplotlib isn't installed.
    """
    return _plot.draw(self, ax)

  def __str__(self) -> str:
    return _table.text(self)

  def __repr__(self) -> str:
    return f'Tally({_table.plural(len(self.rows), "leaf")}: {_table.summary(self)})'

  def _repr_html_(self) -> str:
    return _table.html(self)


def _is_under(path: str, prefix: str) -> bool:
  return path == prefix or not prefix or path.startswith((f'{prefix}/', f'{prefix}.'))
