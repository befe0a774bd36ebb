"""Masked and shrunk, side by side."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, _hosts, tree
from jprune._entry import public
from jprune._text.words import number
from jprune.graph import _errors
from jprune.graph._analysis.traced import Traced
from jprune.graph._axes.sizes import Sizes
from jprune.graph._channels.graph import ChannelGraph, graph_of
from jprune.graph._channels.kept_units import kept_units
from jprune.graph._channels.read_masks import ReadMask, read_masks
from jprune.graph._program.compiled import Compiled
from jprune.graph._program.sharding import take_axis
from jprune.graph._shrunk.hard_inputs import hard_inputs
from jprune.graph._shrunk.program import Program
from jprune.typing import Masks, Params


@dataclasses.dataclass(frozen=True)
class Verification:
  """How far the shrunk function is from the masked one.

  Attributes:
    largest: largest absolute difference between any two results; infinite if one of them is
      infinite or NaN where the other is not.
    relative: the same, divided by the largest absolute value of the result that it occurs in.
    outputs: largest absolute difference for each result, by path.
    params: number of weights, dense and shrunk.
    inputs: with ``inputs='hard'``, by kind of input the difference ``relative`` for it.
    skipped: pairs of a kind of hard inputs that says nothing, and why.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.arange(6.0).reshape(2, 3), 'out': jnp.ones((3, 1))}
    >>> keep = jnp.array([True, False, True])
    >>> masks = {'in': jnp.stack([keep] * 2), 'out': keep[:, None]}
    >>> found = jprune.graph.verify(fn, params, masks, jnp.ones((4, 2)))
    >>> found.largest, found.params
    (0.0, (9, 6))
  """

  largest: float
  relative: float
  outputs: dict[str, float]
  params: tuple[int, int]
  inputs: dict[str, float] = dataclasses.field(default_factory=dict)
  skipped: tuple[tuple[str, str], ...] = ()

  def __str__(self) -> str:
    lines = [self._first_line()]
    if self.inputs:
      worst = max(self.inputs, key=self.inputs.__getitem__)
      most = f'; most on {worst}, {number(self.inputs[worst])}' if self.inputs[worst] else ''
      lines.append(f'Compared on the inputs and on {len(self.inputs)} kinds of hard ones{most}.')
    lines += [f'Skipped: {name}, {why}.' for name, why in self.skipped]
    return '\n'.join(lines)

  def _first_line(self) -> str:
    dense, small = self.params
    results = f'{len(self.outputs):,} {"result" if len(self.outputs) == 1 else "results"}'
    left = f'{small:,} of {dense:,} weights are left'
    if not self.largest:
      return f'Masked and shrunk agree exactly in {results}; {left}.'
    if self.largest == float('inf'):
      where = ', '.join(repr(path) for path, apart in self.outputs.items() if apart == self.largest)
      return f'One of masked and shrunk is infinite or NaN where the other is not: {where}; {left}.'
    apart = f'{number(self.largest)} ({number(self.relative)} of the largest value)'
    return f'Masked and shrunk differ by at most {apart} in {results}; {left}.'


_PROGRAMS = Compiled()


@functools.partial(public, runs=True)
def verify(
  fn: Callable[..., Any],
  params: Params,
  masks: Masks,
  *args: Any,
  key: jax.Array | None = None,
  strict: bool = True,
  inputs: Literal['hard'] | None = None,
  **keywords: Any,
) -> Verification:
  """Runs the masked and the shrunk function, and reports the largest difference.

  Shrinking is exact up to the order of additions: in float64 expect 1e-12 of the largest value, in
  float32 some 1e-6. Values that are not finite in the masked function must be the same in the
  shrunk one: a pruned channel that is ``0 / 0`` makes the masked function NaN, and is not there in
  the shrunk one.

  Compiled once for each function, shapes and pruned channels, as :func:`capture` is: a change of
  what ``fn`` closes over is not seen by a later call, as under ``jax.jit``.

  Args:
    fn: ``fn(params, *args)``, as for :func:`jprune.shrink`.
    params: tree of arrays.
    masks: tree of the same structure: bool arrays or ``None``.
    *args: trees of arrays; shape structs among them (floating ones) are filled with normal random
      numbers, which need ``key``.
    key: a typed random key.
    strict: as for :func:`jprune.shrink`.
    inputs: ``'hard'`` compares the two on variations of ``args`` as well: zeros of either sign,
      repeated rows, large and tiny values, integers that are out of range, and no entries along an
      axis. Those for which the masked function isn't finite, or can't run, are skipped.
    **keywords: none; bind those of ``fn`` with ``functools.partial``.

  Returns:
    A :class:`Verification`: ``print`` it.

  Raises:
    ValueError: as for :func:`jprune.shrink`; if ``inputs`` is another word.
    TypeError: as for :func:`jprune.shrink`; if a param is a shape struct; if one is given without
      ``key``, or is not floating.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.arange(6.0).reshape(2, 3), 'out': jnp.ones((3, 1))}
    >>> keep = jnp.array([True, False, True])
    >>> masks = {'in': jnp.stack([keep] * 2), 'out': keep[:, None]}
    >>> verify(fn, params, masks, jnp.ones((4, 2))).largest
    0.0
    >>> print(verify(fn, params, masks, jnp.ones((4, 2)), inputs='hard'))
    Masked and shrunk agree exactly in 1 result; 6 of 9 weights are left.
    Compared on the inputs and on 7 kinds of hard ones.
    Skipped: nothing along axis 1, for which fn raises TypeError.
  """
  _checks.check_no_keywords('verify', keywords)
  _checks.check_choice('verify', 'inputs', inputs, (None, 'hard'))
  for path, leaf in zip(*tree.flatten(params)[:2]):
    if isinstance(leaf, jax.ShapeDtypeStruct):
      raise _errors.param_without_values('verify', path, leaf)
  if not callable(fn):
    raise _checks.not_a_function('verify', fn)
  args = _filled(args, key)
  # One object for all calls, so that it's traced once; it calls fn, which has to live as long.
  same = _PROGRAMS.of(fn, 'itself', lambda fn: fn)
  found = read_masks('verify', params, masks)
  graph = graph_of(Traced('verify', same, params, args))
  kept = kept_axes(graph, kept_units('verify', graph, found, strict))
  paths, leaves, treedef = tree.flatten(params)
  masked = [masked_leaf(leaf, mask) for leaf, mask in zip(leaves, found)]
  small = [sliced_leaf(leaf, kept.get(path, {})) for path, leaf in zip(paths, masked)]
  shapes = {path: leaf.shape for path, leaf in graph.leaves.items()}
  program_key = tuple(shapes.items()), treedef, _hashable(kept)
  shrunk = _PROGRAMS.of(fn, program_key, lambda fn: Program(fn, shapes, treedef, kept))
  sides = _Sides(same, shrunk, treedef.unflatten(masked), treedef.unflatten(small))
  states = [None if i is None else kept.get(paths[i], {}) for i in graph.states]
  outputs, ratios = sides.compared(args, states)
  by_kind, skipped = {}, []
  for name, varied in hard_inputs(args) if inputs == 'hard' else ():
    if (why := sides.why_not(varied)) is not None:
      skipped.append((name, why))
      continue
    apart, each = sides.compared(varied, states)
    by_kind[name] = max(each, default=0.0)
    outputs = {path: max(most, apart[path]) for path, most in outputs.items()}
    ratios += each
  count = lambda held: sum(int(np.size(leaf)) for leaf in held)
  sizes = count(leaves), count(small)
  largest = max(outputs.values(), default=0.0)
  return Verification(largest, max(ratios, default=0.0), outputs, sizes, by_kind, tuple(skipped))


class _Sides(NamedTuple):
  """The masked and the shrunk function, each with its params."""

  masked: Callable[..., Any]
  shrunk: Callable[..., Any]
  params: Params
  small: Params

  def why_not(self, args: Any) -> str | None:
    """Why nothing is claimed for these arguments, if so."""
    try:
      jax.eval_shape(self.masked, self.params, *args)
    except Exception as error:
      return f'for which fn raises {type(error).__name__}'
    try:
      jax.eval_shape(self.shrunk, self.small, *args)
    except ValueError:  # another shape may have other channels; then it says so
      return 'for which it has to be shrunk anew'
    outs = jax.tree.leaves(jax.jit(self.masked)(self.params, *args))
    if not all([_is_finite(out) for out in outs]):  # noqa: C419  all processes ask for all
      return 'for which the masked function is not finite'
    return None

  def compared(self, args: Any, states: list[Any]) -> tuple[dict[str, float], list[float]]:
    """By result the largest difference, and for each result its size beside the largest value."""
    paths, wanted, _ = tree.flatten(jax.jit(self.masked)(self.params, *args))
    actual = jax.tree.leaves(self.shrunk(self.small, *args))
    differences, ratios = {}, []
    for path, a, b, kept in zip(paths, wanted, actual, states, strict=True):
      a = a if kept is None else sliced_leaf(a, kept)
      differences[path], ratio = _apart(a, b)
      ratios.append(ratio)
    return differences, ratios


def _hashable(kept: dict[str, dict[int, np.ndarray]]) -> Hashable:
  return tuple((p, axis, keep.tobytes()) for p, of in kept.items() for axis, keep in of.items())


def kept_axes(graph: ChannelGraph, units: list[np.ndarray]) -> dict[str, dict[int, np.ndarray]]:
  """By leaf path and axis, which indices stay; axes that lose nothing are left out."""
  sizes = Sizes(graph.keeps(units))
  out: dict[str, dict[int, np.ndarray]] = {}
  for path, dims in graph.dims.items():
    for axis, dim in enumerate(dims):
      keep = sizes.keep(dim)
      if keep is not None and not keep.all():
        out.setdefault(path, {})[axis] = keep
  return out


def masked_leaf(leaf: Any, mask: ReadMask | None) -> Any:
  """Zero where pruned, of the leaf's dtype."""
  if mask is None or mask.keeps_all:
    return leaf
  keep = mask.array
  if not _hosts.spans(keep):
    keep = np.asarray(keep)  # which goes to wherever the leaf is
    if isinstance(leaf, np.ndarray):
      return np.where(keep, leaf, np.zeros((), leaf.dtype))
  elif _hosts.spans(leaf):
    keep = jax.device_put(keep, leaf.sharding)
  return jnp.where(keep, leaf, jnp.zeros((), leaf.dtype))


def sliced_leaf(leaf: Any, kept: dict[int, np.ndarray]) -> Any:
  """The entries that stay, on the host where they can be read there at no cost."""
  if not kept:
    return leaf
  for axis, keep in kept.items():
    leaf = take_axis(leaf, np.flatnonzero(keep), axis)
  return leaf


def _filled(args: Any, key: jax.Array | None) -> Any:
  paths, leaves, treedef = tree.flatten(args)
  missing = [i for i, leaf in enumerate(leaves) if isinstance(leaf, jax.ShapeDtypeStruct)]
  if not missing:
    return args
  _checks.check_key('verify', key)
  for i, each in zip(missing, jax.random.split(cast(jax.Array, key), len(missing))):
    if not tree.is_inexact(leaves[i]):
      raise _errors.not_drawn('verify', paths[i], leaves[i])
    leaves[i] = jax.random.normal(each, leaves[i].shape, leaves[i].dtype)
  return treedef.unflatten(leaves)


def _apart(a: Any, b: Any) -> tuple[float, float]:
  """The largest difference of two results, and beside the largest value of the first."""
  pairs = [(a, b)]
  if apart := _hosts.spans(a, b):  # each process reads its own, of both from the same places
    a = a if _hosts.spans(a) else jax.device_put(a, _hosts.everywhere(b.sharding))
    b = jax.device_put(b, a.sharding)
    pairs = [(one, two) for (_, one), (_, two) in zip(_hosts.parts(a), _hosts.parts(b))]
  wide = [(_wide(one), _wide(two)) for one, two in pairs]
  found = [max((_difference(*pair) for pair in wide), default=0.0)]
  found.append(max((_scale(one) for one, _ in wide), default=0.0))
  largest, scale = _hosts.from_all(found).max(axis=0).tolist() if apart else found
  return largest, largest / (scale or 1.0) if largest else 0.0


def _difference(a: np.ndarray, b: np.ndarray) -> float:
  if not a.size:
    return 0.0
  with np.errstate(invalid='ignore'):
    apart = np.abs(a - b)
  same = (a == b) | (np.isnan(a) & np.isnan(b))
  return float(np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart)).max())


def _scale(a: np.ndarray) -> float:
  a = np.abs(a)
  return float(a[np.isfinite(a)].max(initial=0.0))


def _is_finite(x: Any) -> bool:
  fine = all(np.isfinite(_wide(part)).all() for _, part in _hosts.parts(x))
  return bool(_hosts.from_all(fine).all()) if _hosts.spans(x) else fine


def _wide(x: Any) -> np.ndarray:
  if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
    x = jax.random.key_data(x)
  x = np.asarray(x)
  return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)
