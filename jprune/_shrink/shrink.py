"""Masks to a smaller function and smaller params."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import jax

from jprune import _checks
from jprune._entry import public
from jprune._shrink import _errors
from jprune._shrink.plan import Plan, as_bools, as_kept
from jprune.graph._analysis.traced import Traced
from jprune.graph._channels.graph import ChannelGraph, graph_of
from jprune.graph._channels.kept_units import kept_units
from jprune.graph._channels.read_masks import ReadMask, read_masks
from jprune.graph._macs.count import partly_pruned
from jprune.graph._program.outputs import Filter
from jprune.graph._shrunk.program import Program
from jprune.graph._shrunk.verify import kept_axes, masked_leaf
from jprune.typing import Masks, Params


@dataclasses.dataclass(frozen=True, repr=False)
class Shrunk:
  """A function without its pruned channels.

  Attributes:
    fn: called like the function that was shrunk, with small params. Its Python code runs whenever
      structure, shapes or dtypes of the arguments are new, as under ``jax.jit``. It can be
      transformed and exported like any other function.
    params: the small params, masked where single weights are pruned; structure, dtypes and (along
      axes that still divide) shardings of the full ones.
    plan: which indices stay; slices optimizer states and all else that mirrors the params.

  Warns:
    UserWarning: with ``strict``, if the masks prune single weights only, so that nothing gets
      smaller. Masks that prune nothing pass without a word.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.arange(6.0).reshape(2, 3), 'out': jnp.ones((3, 1))}
    >>> keep = jnp.array([True, False, True])
    >>> masks = {'in': jnp.stack([keep] * 2), 'out': keep[:, None]}
    >>> small = jprune.shrink(fn, params, masks, jnp.ones((4, 2)))
    >>> small
    Shrunk(Plan(6 of 9 weights, 1 group))
    >>> small.slice(optax.sgd(0.1, momentum=0.9).init(params))[0].trace['in'].shape
    (2, 2)
    >>> jax.jit(small.fn)(small.params, jnp.ones((2, 2))).shape
    (2, 1)
    >>> jax.grad(lambda params: small.fn(params, jnp.ones((2, 2))).sum())(small.params)['in'].shape
    (2, 2)
  """

  fn: Callable[..., Any]
  params: Params
  plan: Plan

  def slice(self, other: Any, where: Filter = None) -> Any:
    """The entries that stay, of any tree that mirrors the params: ``plan.slice``.

    Args:
      other: tree of arrays, shape structs or packed masks, such as an optimizer state.
      where: which leaves mirror params, if it isn't plain.

    Returns:
      A tree of the same structure, as :meth:`Plan.slice` has it.

    Raises:
      ValueError, TypeError: as for :meth:`Plan.slice`.
    """
    return self.plan.slice(other, where)

  def __repr__(self) -> str:
    return f'Shrunk({self.plan!r})'


@public
def shrink(
  fn: Callable[..., Any],
  params: Params,
  masks: Masks,
  *args: Any,
  strict: bool = True,
  small_outputs: Filter = None,
  **keywords: Any,
) -> Shrunk:
  """Leaves out the channels that are pruned wholly: a smaller function that computes the same.

  ``small.fn(small.params, *args)`` equals ``fn(jprune.apply(params, masks), *args)`` up to the
  order of additions, provided that the masked function's values are finite. Results that are new
  values of params (``batch_stats``) come out small. Single pruned weights in channels that stay
  are zeros in the small params.

  Args:
    fn: ``fn(params, *args)``, any function that ``jax.jit`` takes.
    params: tree of arrays, or of shape structs.
    masks: tree of the same structure, with values at hand; leaves bool or packed, of the param's
      shape, or ``None``. :func:`jprune.masks.channels` makes masks whose channels can go.
    *args: further arguments of ``fn``, arrays or shape structs. They need not have the shapes of
      later calls; sizes that have nothing to do with channels, such as the batch's, stay free.
    strict: refuse masks that prune a unit in some members of its group only; otherwise such units
      stay. Refuse also masks of whole channels none of which can go.
    small_outputs: results that may come out small, hidden features for example: a regular
      expression on their paths in what ``fn`` returns (``'1'`` is the second of a tuple), or a
      predicate ``(path, shape struct) -> bool``. They hold the entries that stay. By default
      only new values of params do, and an axis that any other result has is frozen.
    **keywords: none; bind those of ``fn`` with ``functools.partial``.

  Returns:
    A :class:`Shrunk`: ``fn``, ``params`` and ``plan``.

  Raises:
    ValueError: if the masks' structure or shapes differ from the params', or, with ``strict``, if
      they treat the members of a group differently (the message names group and leaves) or have no
      effect; if ``small_outputs`` selects no result or is a malformed regular expression.
    TypeError: if a mask is not bool or has no values, or ``masks`` is ``None``; if ``fn`` can't be
      traced with these arguments, or returns something else than arrays; if keywords are given.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.arange(6.0).reshape(2, 3), 'out': jnp.ones((3, 1))}
    >>> keep = jnp.array([True, False, True])
    >>> masks = {'in': jnp.stack([keep] * 2), 'out': keep[:, None]}
    >>> small = shrink(fn, params, masks, jnp.ones((1, 2)))
    >>> jax.tree.map(jnp.shape, small.params)
    {'in': (2, 2), 'out': (2, 1)}
    >>> x = jnp.ones((4, 2))
    >>> bool((small.fn(small.params, x) == fn(jprune.apply(params, masks), x)).all())
    True
  """
  _checks.check_no_keywords('shrink', keywords, ['strict', 'small_outputs'])
  found = read_masks('shrink', params, masks)
  graph = graph_of(Traced('shrink', fn, params, args, small_outputs=small_outputs))
  units = kept_units('shrink', graph, found, strict)
  kept = as_kept(kept_axes(graph, units))
  if strict and not kept:
    _check_no_channels(graph, found)
    if any(mask is not None and not mask.keeps_all for mask in found):
      warnings.warn(_errors.words_nothing_shrinks('shrink'), UserWarning, stacklevel=3)
  plan = Plan(
    {path: leaf.shape for path, leaf in graph.leaves.items()},
    kept,
    tuple((group.name, group.size, int(keep.sum())) for group, keep in zip(graph.groups, units)),
    graph.frozen,
    {} if strict else partly_pruned(graph, found),
  )
  zeros = sum(_zeros(mask, plan.small_shape(path)) for path, mask in zip(plan.shapes, found))
  plan = dataclasses.replace(plan, zeros=zeros)
  small = plan.slice(graph.treedef.unflatten(_masked(jax.tree.leaves(params), found)))
  program = Program(fn, plan.shapes, graph.treedef, as_bools(plan), small_outputs)
  return Shrunk(program, small, plan)


def _check_no_channels(graph: ChannelGraph, masks: list[ReadMask | None]) -> None:
  """Refuses masks that prune nothing but whole slices, where nothing can be left out."""
  first = None
  for (path, leaf), mask in zip(graph.leaves.items(), masks):
    if mask is None or mask.keeps_all or sum(n > 1 for n in leaf.shape) < 2:
      continue
    axis = next((axis for axis in range(len(leaf.shape)) if mask.is_of_slices(axis)), None)
    if axis is None:  # single weights, which are zeros in what stays
      return
    first = first or (path, axis)
  if first is not None:
    raise _errors.no_effect('shrink', *first, graph.frozen.get(first, 'no unit goes as a whole'))


def _zeros(mask: ReadMask | None, shape: tuple[int, ...]) -> int:
  """How many entries are masked of those that stay; what goes is masked."""
  return 0 if mask is None else math.prod(shape) - mask.kept


def _masked(leaves: list[Any], masks: list[ReadMask | None]) -> list[Any]:
  """One array under two paths, masked alike, stays one."""
  done: dict[int, list[tuple[ReadMask, Any]]] = {}
  out = []
  for leaf, mask in zip(leaves, masks):
    if mask is not None and not isinstance(leaf, jax.ShapeDtypeStruct):
      before = done.setdefault(id(leaf), [])
      found = next((new for other, new in before if mask.same_as(other)), None)
      if found is None:
        found = masked_leaf(leaf, mask)
        before.append((mask, found))
      leaf = found
    out.append(leaf)
  return out
