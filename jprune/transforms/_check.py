"""Whether pruned weights stay at zero under an optimizer: tried out, in a few of its steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jprune import tree
from jprune._entry import check_dtypes, explicit
from jprune.masks._in_state import has_masks, is_end, is_hole, masks_in
from jprune.masks._pack import PackedMask, pack_leaf, unpack_leaf
from jprune.transforms import _errors
from jprune.transforms._keep_pruned import KeepPrunedState
from jprune.transforms._mask_state import laid_out_as
from jprune.transforms._mask_updates import MaskUpdatesState
from jprune.transforms._state import SparseState
from jprune.typing import ByPath, Masks, Params

_NAME = 'check'
_STEPS = 3  # that move weights: from the second on, momentum has something to say
_GRADIENT = 0.01
_NOT_ZERO = 0.5


class _Seen(NamedTuple):
  """What a step did to one leaf, as arrays.

  Attributes:
    alive: how many of its pruned weights are not zero.
    pruned: how many weights are pruned.
    moved: whether a weight that is kept has an update.
    all_pruned: whether no weight is kept.
  """

  alive: jax.Array
  pruned: jax.Array
  moved: jax.Array
  all_pruned: jax.Array


@explicit
def check(
  tx: optax.GradientTransformation | optax.MultiSteps,
  params: Params,
  *,
  calls: int = 64,
  **extra_args: Any,
) -> None:
  """Tries out whether pruned weights stay at 0.0 under an optimizer; call it once before training.

  It runs steps of ``tx`` with made-up gradients that are zero nowhere: once from params whose
  pruned weights are zero, and, unless :func:`mask_updates` alone holds the masks, once from params
  whose pruned weights are not. So whatever comes after :func:`keep_pruned` in a chain shows,
  whether it adds to updates (weight decay, noise), scales them, or remembers them (momentum,
  averages), and so does a wrapper that changes them. Steps in which no weight moves, in which
  ``optax.MultiSteps`` gathers gradients or a warm-up starts from zero, are passed over. Masks that
  prune nothing yet are tried out with every second weight pruned.

  Nothing is changed: ``tx`` is a function, and ``params`` are copied. It costs what six steps of
  the optimizer cost, without the gradients, and holds two copies of params, updates and state
  meanwhile.

  Args:
    tx: an optimizer that has masks in its state: a chain that ends in :func:`keep_pruned`, a
      method such as :func:`gradual`, or what is wrapped around them.
    params: tree of arrays, as for ``tx.init``.
    calls: so many calls of ``tx.update`` are tried until weights have moved in three of them.
    **extra_args: passed to ``tx.update``.

  Raises:
    ValueError: if pruned weights are not zero after a step: the message names a leaf, how many
      they are and what to do; if the state holds no masks; if no weight moves.
    TypeError: if ``tx`` is no optax transformation.

  Examples:
    >>> params = {'kernel': jnp.array([[1.0, -3.0], [2.0, 0.5]])}
    >>> masks = jprune.prune(params, 0.5)
    >>> check(optax.chain(optax.sgd(0.1), jprune.keep_pruned(masks)), params)
    >>> check(optax.chain(jprune.keep_pruned(masks), optax.sgd(0.1)), params)
    Traceback (most recent call last):
    ...
    ValueError: check: `tx` must be an optimizer after whose steps pruned weights are 0.0; ...
  """
  check_dtypes(_NAME, params)
  _errors.check_optimizer(_NAME, tx, 'tx')
  state = tx.init(params)
  if not _holders(state):
    raise _errors.holds_no_masks(_NAME)
  state = _that_prunes(state)
  masks = masks_in(_NAME, state)

  @jax.jit
  def advance(state: Any, params: Params, step: jax.Array) -> tuple[Any, Params, dict[str, _Seen]]:
    updates, state = tx.update(_gradients(params, step), state, params, **extra_args)
    moved = optax.apply_updates(params, updates)
    return state, moved, _seen(masks_in(_NAME, state), moved, updates)

  for value in (0.0, _NOT_ZERO):
    if value and not any(not isinstance(node, MaskUpdatesState) for node in _holders(state)):
      return  # nothing that would take them to zero
    start = _with_pruned(params, masks, value)
    found = _first_alive(advance, state, start, calls, from_zero=not value)
    if found is not None:
      step, leaves = found
      raise _errors.not_kept_at_zero(_NAME, step, leaves, not value, _what_to_do(state))


def _first_alive(
  advance: Any, state: Any, params: Params, calls: int, from_zero: bool
) -> tuple[int, list[tuple[str, int, int]]] | None:
  """The first step after which pruned weights are not zero: where, and how many of how many.

  Weights that were not zero before are no fault of a step that moves nothing in their leaf.
  """
  steps = 0
  for step in range(calls):
    state, params, seen = advance(state, params, jnp.uint32(step))
    seen = jax.device_get(seen)
    moves = any(leaf.moved for leaf in seen.values())
    found = [
      (path, int(leaf.alive), int(leaf.pruned))
      for path, leaf in seen.items()
      if leaf.alive and (from_zero or leaf.moved or (leaf.all_pruned and moves))
    ]
    if found:
      return step, found
    steps += moves
    if steps == _STEPS:
      return None
  if not steps:
    raise _errors.never_moves(_NAME, calls)
  return None


def _seen(masks: Masks, params: Params, updates: Any) -> dict[str, _Seen]:
  """What there is to see of each leaf that has a mask."""
  weights, moves = _by_path(params), _by_path(updates)
  out = {}
  for path, mask in _by_path(masks).items():
    if mask is None or is_hole(mask):
      continue
    weight = jnp.asarray(weights[path])
    keep = laid_out_as(weight, unpack_leaf(mask))
    move = moves.get(path)
    moved = jnp.zeros((), bool) if move is None or is_hole(move) else jnp.any(keep & (move != 0))
    alive = jnp.sum(~keep & (weight != 0), dtype=jnp.int32)  # NaN isn't zero either
    out[path] = _Seen(alive, jnp.sum(~keep, dtype=jnp.int32), moved, ~jnp.any(keep))
  return out


def _gradients(params: Params, step: jax.Array) -> Any:
  """Numbers of both signs that are zero nowhere, others in each step; zeros of what is no float.

  A weight has those of one sign only: they don't cancel where they are gathered over steps.
  """
  size = _GRADIENT * (1 + step % 3).astype(jnp.float32)

  def leaf(weight: Any) -> jax.Array:
    weight = jnp.asarray(weight)
    if not tree.is_inexact(weight):
      return jnp.zeros_like(weight)
    if weight.ndim == 0:
      return size.astype(weight.dtype)
    along = jax.lax.broadcasted_iota(jnp.uint32, weight.shape, weight.ndim - 1)
    values = jnp.where(along % 2 == 0, size, -size)
    return laid_out_as(weight, values.astype(weight.dtype))

  return jax.tree.map(leaf, params)


def _with_pruned(params: Params, masks: Masks, value: float) -> Params:
  """The params with all pruned weights at zero, or at a number where they are zero."""
  by_path = _by_path(masks)

  def leaf(path: str, weight: Any) -> Any:
    mask = by_path.get(path)
    if mask is None or is_hole(mask):
      return weight
    weight = jnp.asarray(weight)
    other = jnp.full_like(weight, value)
    if value:
      other = jnp.where(weight != 0, weight, other)
    return jnp.where(laid_out_as(weight, unpack_leaf(mask)), weight, other)

  paths, leaves, treedef = tree.flatten(params)
  return treedef.unflatten(map(leaf, paths, leaves))


def _that_prunes(state: Any) -> Any:
  """The state, with every second weight pruned where its masks prune nothing yet."""

  def node(each: Any) -> Any:
    if not has_masks(each):
      return each
    held = [m for m in jax.tree.leaves(each.masks, is_leaf=is_end) if not (m is None or is_hole(m))]
    if not all(bool(jnp.all(unpack_leaf(mask))) for mask in held):
      return each
    each = each._replace(masks=jax.tree.map(_every_second, each.masks, is_leaf=is_end))
    # on the first call a method would choose its masks anew
    return each._replace(count=each.count + 1) if isinstance(each, SparseState) else each

  return jax.tree.map(node, state, is_leaf=has_masks)


def _every_second(mask: Any) -> Any:
  if mask is None or is_hole(mask) or len(mask.shape) == 0:
    return mask
  along = jax.lax.broadcasted_iota(jnp.uint32, mask.shape, len(mask.shape) - 1)
  found = unpack_leaf(mask) & (along % 2 == 0)
  return pack_leaf(found) if isinstance(mask, PackedMask) else found


def _holders(state: Any) -> list[Any]:
  return [node for node in jax.tree.leaves(state, is_leaf=has_masks) if has_masks(node)]


def _by_path(found: Any) -> ByPath:
  return dict(zip(*tree.flatten(found, is_end)[:2]))


def _what_to_do(state: Any) -> str:
  """Where what holds the masks stands, and where it should."""
  if all(isinstance(node, MaskUpdatesState) for node in _holders(state)):
    return 'mask_updates looks at gradients only: end the chain with jprune.keep_pruned(masks).'
  last = [node for node in _holders(state) if not isinstance(node, MaskUpdatesState)][-1]
  name = 'keep_pruned(masks)' if isinstance(last, KeepPrunedState) else 'what prunes'
  after = _after(state, last)
  if not after:
    return f'Something around {name} changes the updates: put it outside of that.'
  names = [type(each).__name__.removesuffix('State') for each in after]
  known = ', '.join(dict.fromkeys(name for name in names if name != 'Empty'))
  count = '1 other' if len(after) == 1 else f'{len(after)} others'
  shown = f' ({known})' if known else ''
  return f'In its chain {name} is followed by {count}{shown}: put it last.'


def _after(state: Any, node: Any) -> list[Any]:
  """The states of what comes after a node, in the chains that it is in."""
  if type(state) is not tuple:
    return []
  at = next((i for i, each in enumerate(state) if any(n is node for n in _holders(each))), None)
  if at is None:
    return []
  inner = lambda each: [n for part in each for n in inner(part)] if type(each) is tuple else [each]
  return _after(state[at], node) + [found for each in state[at + 1 :] for found in inner(each)]
