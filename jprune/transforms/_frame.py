"""The frame of all methods of sparse training: an inner optimizer, and masks that change.

A method says how masks change. All else is here: when they do, how many weights are kept, what the
inner optimizer sees of pruned weights (nothing), what becomes of its moments, and that pruned
weights are exactly zero after each step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jprune import _checks, tree
from jprune._entry import check_dtypes
from jprune.masks._apply import zero_where_pruned
from jprune.masks._pack import unpack_leaf
from jprune.transforms import _clock, _errors, _moments
from jprune.transforms._along import Along, held, is_by_path, nested_memory
from jprune.transforms._changes import churned, if_due
from jprune.transforms._how import How
from jprune.transforms._mask_state import (
  held_masks,
  is_end,
  is_hole,
  is_placeholder,
  kept_update,
  laid_out_as,
)
from jprune.transforms._method import Method, Step, each, single
from jprune.transforms._state import SparseState
from jprune.transforms._when import When
from jprune.typing import ByPath, Masks, Params


class Now(NamedTuple):
  """What a change of masks may change; trees are by path of leaf."""

  masks: ByPath
  memory: Any
  clock: Any
  churn: jax.Array


@dataclasses.dataclass(frozen=True)
class MethodFrame:
  """One method around one optimizer.

  Attributes:
    method: how masks change.
    inner: the optimizer.
    when: the calls on which they do.
    how: by what weights are chosen.
    masks: with which training starts, or ``None``.
    packed: whether masks are held at one bit a weight.
    clock: whether Adam's bias correction goes by the steps of each weight that comes back.
  """

  method: Method
  inner: optax.GradientTransformationExtraArgs
  when: When
  how: How
  masks: Masks
  packed: bool
  clock: bool

  def init(self, params: Params) -> SparseState:
    """The state with which training starts."""
    check_dtypes(self.method.name, params)
    if isinstance(params, optax.LookaheadParams):
      raise _errors.two_sets_of_params(self.method.name)
    _, leaves, _ = tree.flatten(params, is_end)
    if is_placeholder(params) or (leaves and all(map(is_hole, leaves))):
      return self._blank(params)
    along = Along(self.method.name, self.how.leaves(params), params)
    weights = along.weights
    table = self.when.table(self.how.counts(along))
    memory = self.method.remember(weights) if self.method.remember else ()
    # a copy: a donated state must leave the caller their key
    key = () if self.how.key[0] is None else jnp.copy(self.how.key[0])
    masks = self._started(along, params, memory, table[0], key)
    inner = self.inner.init(params if self.method.dense else _masked(along, masks))
    if self.method.regrows and not self.method.dense:
      self._start_at_zero(along)  # found out here, so that a step compiles nothing for it
    clock = None
    if self.clock and self.method.regrows and not self.method.dense:
      clock = _clock.started(inner, weights)
    return SparseState(
      jnp.zeros((), jnp.int32),
      along.nested(held(masks, self.packed)),
      inner,
      nested_memory(along, memory),
      along.nested(each(jnp.copy, weights)) if self.method.dense else (),
      () if clock is None else clock._replace(ticks=along.nested(clock.ticks)),
      jnp.asarray(table),
      jnp.zeros((), jnp.float32),
      key,
    )

  def _started(
    self, along: Along, params: Params, memory: Any, kept: np.ndarray, key: Any
  ) -> ByPath:
    """The masks with which training starts."""
    weights = along.weights
    masks = each(lambda w: laid_out_as(w, jnp.ones(w.shape, bool)), weights)
    if self.masks is not None:
      return self._given(along, params, masks, kept)
    if not self.method.start:
      return masks
    count = jnp.zeros((), jnp.int32)
    return self.method.start(
      self.how.step(along, count, weights, masks, memory, jnp.asarray(kept), key)
    )

  def _given(self, along: Along, params: Params, ones: ByPath, kept: np.ndarray) -> ByPath:
    """The masks that the user starts with, checked."""
    name = self.method.name
    given = held_masks(name, params, self.masks)
    for path, mask in zip(*tree.flatten(given, is_end)[:2]):
      if path not in ones and mask is not None and not is_hole(mask):
        raise _errors.not_selected_but_masked(name, path)
    whole = lambda mask, one: one if mask is None else unpack_leaf(mask)
    masks = each(whole, along.flat(given), ones)
    if self.method.start and not tree.is_traced(*masks.values(), *along.weights.values()):
      step = self.how.step(along, 0, along.weights, masks, kept=kept)
      own = {path: mask for path, mask in masks.items() if path not in step.followers}
      flat = {path: jnp.ones(mask.shape, jnp.float32) for path, mask in own.items()}
      for path, most in step.best(flat, among=own).items():
        if jnp.any(own[path] & ~most):
          raise _errors.start_denser(name, path, int(own[path].sum()), int(most.sum()))
    return masks

  def _blank(self, params: Params) -> SparseState:
    """The state of params that are hidden, or stand for themselves in ``optax.tree_map_params``."""
    if self.method.remember:
      along = lambda node: params if is_by_path(node) else node
      memory = jax.tree.map(along, self.method.remember({}), is_leaf=is_by_path)
    else:
      memory = ()
    return SparseState(
      jnp.zeros((), jnp.int32),
      params,
      self.inner.init(params),
      memory,
      params if self.method.dense else (),
      (),
      jnp.zeros((0, 0, 2), jnp.uint32),
      jnp.zeros((), jnp.float32),
      () if self.how.key[0] is None else jnp.asarray(self.how.key[0]),
    )

  def update(
    self, updates: Any, state: SparseState, params: Any = None, **extra_args: Any
  ) -> tuple[Any, SparseState]:
    """A step of the inner optimizer, with the masks that are in force from this call on."""
    name, method = self.method.name, self.method
    if params is None:
      raise _errors.missing_params(name)
    if not isinstance(state, SparseState):
      raise _errors.no_sparse_state(name, state)
    along = Along(name, state.masks, params, updates)
    if not along.masks:
      updates, inner = self.inner.update(updates, state.inner, params, **extra_args)
      return updates, state._replace(count=state.count + 1, inner=inner)
    for argument, leaves in (('params', along.weights), ('updates', along.updates)):
      for path, mask in along.masks.items():
        _checks.check_shape(name, argument, path, leaves[path], mask.shape)
    if len(state.kept) != len(self.when.rows):
      raise _errors.other_schedule(name, len(state.kept), len(self.when.rows))
    weights = along.flat(state.dense) if method.dense else along.weights
    memory = self.memory(along, weights, state.memory)
    kept = self.when.row(state.kept, state.count)
    step = self.how.step(
      along, state.count, weights, along.masks, memory, kept, state.key, state.inner
    )
    if method.observe:
      step = dataclasses.replace(step, memory=method.observe(step))
    move = lambda step, inner: self.inner.update(
      along.updates_with(self._gradients(step, along)),
      inner,
      along.params_with(weights) if method.dense else _masked(along, step.masks),
      **extra_args,
    )
    clock = () if state.clock == () else state.clock._replace(ticks=along.flat(state.clock.ticks))
    now = Now(along.masks, step.memory, clock, state.churn)
    if method.change:
      change = lambda now: self._changed(along, step, now, move)
      now = if_due(self.when.due(state.count), change, now)
    step = dataclasses.replace(step, masks=each(unpack_leaf, now.masks), memory=now.memory)
    updates, inner = move(step, self._fresh(along, state.inner, step.masks))
    moved = Along(name, state.masks, params, updates)
    if clock != ():
      updates = moved.updates_with(_clock.corrected(now.clock, inner, moved.updates))
      moved = Along(name, state.masks, params, updates)
      clock = now.clock._replace(ticks=along.nested(now.clock.ticks))
    updates, dense = self._moved(step, moved)
    return updates, SparseState(
      state.count + 1,
      along.nested(now.masks),
      inner,
      nested_memory(along, step.memory),
      dense,
      clock,
      state.kept,
      now.churn,
      state.key,
    )

  def memory(self, along: Along, weights: ByPath, memory: Any) -> Any:
    """A method's memory with a dict by path for each tree."""
    if not self.method.remember:
      return ()
    like = jax.eval_shape(self.method.remember, weights)
    trees, treedef = jax.tree.flatten(like, is_leaf=is_by_path)
    held = treedef.flatten_up_to(memory)
    return treedef.unflatten(
      [along.flat(node) if is_by_path(one) else node for one, node in zip(trees, held)]
    )

  def _changed(
    self, along: Along, step: Step, now: Now, move: Callable[[Step, Any], tuple[Any, Any]]
  ) -> Now:
    """What there is after a change of masks."""
    old = each(unpack_leaf, now.masks)
    step = dataclasses.replace(step, masks=old, memory=now.memory)
    if self.method.change is None:
      return now
    new, memory = self.method.change(step)
    clock = now.clock
    if clock != ():
      grown = each(lambda mask, before: mask & ~before, new, old)
      step = dataclasses.replace(step, masks=new, memory=memory)
      clock = _clock.ticked(clock, step.inner, grown, lambda inner: move(step, inner)[1])
    churn = churned(old, new).astype(now.churn.dtype)
    return Now(held(new, self.packed), memory, clock, churn)

  def _fresh(self, along: Along, inner: Any, masks: ByPath) -> Any:
    """The inner state, as a fresh one where weights are pruned.

    On each call, not where masks change: there it is a part of what the optimizer computes of a
    moment anyway, while a change would have to copy all moments. What comes back finds moments
    that gradients of 0 have left as they start; where those start from something else than 0, the
    masks before this call are needed, and copied.
    """
    if self.method.dense:
      return inner
    if self.method.regrows and not self._start_at_zero(along):
      masks = each(jnp.logical_and, masks, each(unpack_leaf, along.masks))
    return _moments.fresh_where_pruned(inner, self.inner.init(_masked(along, masks)), masks)

  def _start_at_zero(self, along: Along) -> bool:
    """Whether the inner optimizer's moments do."""
    leaves, treedef = jax.tree.flatten(along.params_with(along.weights))
    kinds = tuple((jnp.ndim(x), jnp.result_type(x)) for x in leaves)
    return _moments.start_at_zero(self.inner.init, treedef, kinds)

  def _gradients(self, step: Step, along: Along) -> ByPath:
    """What the inner optimizer gets, in the dtypes of the updates."""
    if self.method.gradient:
      return each(lambda new, old: new.astype(old.dtype), self.method.gradient(step), along.updates)
    if self.method.dense:
      return along.updates
    return each(
      lambda g, mask: zero_where_pruned(g, laid_out_as(g, mask)), along.updates, step.masks
    )

  def _moved(self, step: Step, along: Along) -> tuple[Any, Any]:
    """The updates of the params, and the dense weights."""
    if not self.method.dense:
      return along.updates_with(each(kept_update, along.updates, step.masks, along.weights)), ()
    add = lambda weight, update: optax.apply_updates(weight, update)
    dense = each(add, step.weights, along.updates)
    step = dataclasses.replace(step, weights=dense)
    shown = self.method.show(step) if self.method.show else dense
    away = each(lambda to, at: single(to) - single(at), shown, along.weights)
    updates = each(kept_update, away, step.masks, along.weights)
    return along.updates_with(updates), along.nested(dense)


def _masked(along: Along, masks: ByPath) -> Any:
  """The params, zero where pruned."""
  zeroed = lambda w, mask: zero_where_pruned(w, laid_out_as(w, mask))
  return along.params_with(each(zeroed, along.weights, masks))
