"""Multiply-adds of any function, leaf by leaf and equation by equation."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jprune import _checks
from jprune._entry import public
from jprune.graph._analysis.traced import Traced
from jprune.graph._axes.sizes import Sizes
from jprune.graph._channels.graph import ChannelGraph, graph_of
from jprune.graph._channels.kept_units import kept_units, lines_alive, seen
from jprune.graph._channels.read_masks import ReadMask, read_masks
from jprune.graph._macs import table
from jprune.graph._macs.products import Macs, Product, products, sum_of, uncounted
from jprune.graph._program.locations import line
from jprune.typing import Masks, Params


@dataclasses.dataclass(frozen=True, repr=False)
class MacCount:
  """Multiply-adds of matrix products and convolutions; all counts are exact Python ints.

  One multiplication with its addition is one MAC (half of what some count as FLOPs). A window of
  a convolution that reaches into the padding counts in full; zeros that a transposed convolution
  puts between the pixels of its input count nowhere. Without masks, the three counts of a
  :class:`Macs` are the same. ``str()`` is a table as wide as the terminal; notebooks show it as
  HTML.

  Attributes:
    equations: one :class:`Product` for each equation that multiplies and adds, in the order in
      which they run; several if it multiplies by several leaves that were concatenated.
    leaves: the :class:`Macs` of each leaf by path, in tree order; zero if no product uses it.
    shapes: the shape of each leaf without the channels that are wholly pruned.
    skipped: pairs of an equation that the counts may leave out, with its source line, and why.
    partly: by group, how many units stay because only some of their members are pruned.
    masked: whether masks were given.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.ones((3, 8)), 'out': jnp.ones((8, 2))}
    >>> count = jprune.graph.macs(fn, params, jnp.ones((1, 3)))
    >>> count.dense, count.leaves['in'].dense, count.leaves['out'].dense
    (40, 24, 16)
  """

  equations: tuple[Product, ...]
  leaves: Mapping[str, Macs]
  shapes: Mapping[str, tuple[int, ...]]
  skipped: tuple[tuple[str, str], ...]
  partly: Mapping[str, int]
  masked: bool

  @property
  def dense(self) -> int:
    """Of the function as it is."""
    return self._total.dense

  @property
  def sparse(self) -> int:
    """Each product's times the share of its weights that the masks keep."""
    return self._total.sparse

  @property
  def shrunk(self) -> int:
    """Without the channels that are wholly pruned, as :func:`jprune.shrink` leaves them out."""
    return self._total.shrunk

  @property
  def others(self) -> Macs:
    """Of the products of no single leaf, such as attention's scores."""
    return sum_of(row.macs for row in self.equations if row.leaf is None)

  @property
  def _total(self) -> Macs:
    return sum_of(row.macs for row in self.equations)

  def to_dict(self) -> dict[str, Any]:
    """Everything as plain, JSON-serialisable Python values.

    Returns:
      A dict with the keys ``total``, ``others``, ``leaves``, ``equations``, ``skipped`` and
      ``partly``; counts are dicts with the keys ``dense``, ``sparse`` and ``shrunk``.
    """
    return table.as_dict(self)

  def __str__(self) -> str:
    return table.text(self)

  def __repr__(self) -> str:
    return f'MacCount({table.summary(self)})'

  def _repr_html_(self) -> str:
    return table.html(self)


@public
def macs(
  fn: Callable[..., Any],
  params: Params,
  *args: Any,
  masks: Masks = None,
  strict: bool = True,
  **keywords: Any,
) -> MacCount:
  """Counts multiply-adds of any function: dense, without pruned weights, and as shrunk.

  The function is traced, not run: shapes are enough, and they alone decide, the batch included.
  Matrix products and convolutions count; what works entry by entry (norms, activations, pooling)
  doesn't. Each product belongs to the leaf by which it multiplies, found through reshapes, casts,
  slices, loops, and masks or scales that multiply the leaf. A scan counts as often as it runs, a
  ``lax.cond`` as its most expensive branch, a while loop once (it is named in ``skipped``).

  Args:
    fn: ``fn(params, *args)``, as for :func:`channels`.
    params: tree of arrays or shape structs.
    *args: trees of arrays or shape structs.
    masks: tree of the structure of ``params``, with values at hand; leaves bool or packed, of the
      param's shape, or ``None``.
    strict: as for :func:`jprune.shrink`, which refuses masks that prune a unit in some members of
      its group only; otherwise such units stay, and are counted in ``partly``.
    **keywords: none; bind those of ``fn`` with ``functools.partial``.

  Returns:
    A :class:`MacCount`: ``print`` it, or read its totals, leaves and equations.

  Raises:
    ValueError: if the params hold no leaf; if the masks' structure or shapes differ from the
      params', or, with ``strict``, if they treat the members of a group differently.
    TypeError: if ``fn`` is no function, can't be traced with these arguments, or returns something
      else than arrays; if a mask is not bool or has no values; if other keywords are given.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.ones((3, 8)), 'out': jnp.ones((8, 2))}
    >>> keep = jnp.arange(8) < 6
    >>> masks = {'in': jnp.stack([keep] * 3), 'out': jnp.zeros((8, 2), bool).at[:3].set(True)}
    >>> print(macs(fn, params, jnp.ones((1, 3)), masks=masks, strict=False))
    leaf               dense  sparse  shrunk   share
    ------------------------------------------------
    in                    24      18      18  60.00%
    out                   16       6      12  40.00%
    ------------------------------------------------
    total, 2 products     40      24      30
    <BLANKLINE>
    Not shrunk: 3 units of 1 group, pruned in some of their members only.
  """
  _checks.check_no_keywords('macs', keywords)
  return count_macs('macs', fn, params, args, masks, strict)


def count_macs(
  function: str,
  fn: Callable[..., Any],
  params: Params,
  args: Sequence[Any],
  masks: Masks,
  strict: bool = False,
) -> MacCount:
  """The same for the caller that messages are to name."""
  return macs_and_graph(function, fn, params, args, masks, strict)[0]


def macs_and_graph(
  function: str,
  fn: Callable[..., Any],
  params: Params,
  args: Sequence[Any],
  masks: Masks,
  strict: bool = False,
) -> tuple[MacCount, ChannelGraph | None]:
  """With the graph whose channels masks prune; ``None`` without masks."""
  found = None if masks is None else read_masks(function, params, masks)
  traced = Traced(function, fn, params, args)
  sizes, partly, graph = Sizes({}), {}, None
  if found is not None:
    graph = graph_of(traced)
    partly = {} if strict else partly_pruned(graph, found)
    sizes = Sizes(graph.keeps(kept_units(function, graph, found, strict)))
  rows = products(traced, found, sizes)
  by_leaf: dict[str, list[Macs]] = {path: [] for path in traced.paths}
  for row in rows:
    if row.leaf is not None:
      by_leaf[row.leaf].append(row.macs)
  dims = zip(traced.paths, traced.dims)
  counted = MacCount(
    tuple(rows),
    {path: sum_of(each) for path, each in by_leaf.items()},
    {path: tuple(int(sizes.small_size(dim)) for dim in each) for path, each in dims},
    _skipped(traced),
    partly,
    found is not None,
  )
  return counted, graph


def _skipped(traced: Traced) -> tuple[tuple[str, str], ...]:
  """The equations of a kind and line once, with how many they are."""
  found = collections.Counter(
    (f'{eqn.primitive.name} ({where})' if (where := line(eqn)) else eqn.primitive.name, why)
    for eqn, why in uncounted(traced.frame)
  )
  times = lambda count: f', {count} times' if count > 1 else ''
  return tuple((name, why + times(count)) for (name, why), count in found.items())


def partly_pruned(graph: ChannelGraph, masks: Sequence[ReadMask | None]) -> dict[str, int]:
  """How many units of each group some members prune and others keep, by the group's name."""
  by_path = dict(zip(graph.leaves, masks))
  alive = lines_alive(by_path)
  out = {}
  for group in graph.groups:
    found = [seen(group, by_path, alive, i) for i in range(len(group.members))]
    known = [each for each in found if each is not None]
    if known:
      pruned, kept = (np.logical_or.reduce(each) for each in zip(*known))
      if both := int((pruned & kept).sum()):
        out[group.name] = both
  return out
