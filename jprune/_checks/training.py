"""Transforms and schedules."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jprune._checks.arrays import check_numeric
from jprune._checks.words import differing, listed, message


def missing_params(function: str) -> ValueError:
  fix = 'Call tx.update(updates, state, params).'
  return ValueError(message(function, 'params', 'the params that the updates are for', 'None', fix))


def other_than_init(
  function: str, argument: str, expected: Sequence[str], found: Sequence[str]
) -> ValueError:
  """``update`` got another tree than the one that ``init`` saw."""
  got = differing(expected, found) or 'the same leaves in another order'
  constraint = 'a tree with the structure of the params that `init` saw'
  return ValueError(message(function, argument, constraint, got, 'Call tx.init(params) anew.'))


def not_finite_where_pruned(function: str, path: str, count: int) -> ValueError:
  fix = 'No update takes them to 0.0: start from jprune.apply(params, masks).'
  got = f'{count} infinite or NaN'
  return ValueError(message(function, 'params', 'finite where they are pruned', got, fix, path))


def check_step(function: str, argument: str, value: Any) -> None:
  """A training step: what an int32 counter can reach."""
  whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
  if not whole or not 0 <= value < 2**31:
    raise ValueError(message(function, argument, 'an int in [0, 2**31)', repr(value)))


def check_later(function: str, argument: str, value: int, begin: int) -> None:
  if value <= begin:
    fix = 'Use one_shot for a jump.'
    raise ValueError(message(function, argument, f'greater than begin={begin}', repr(value), fix))


def check_below_one(function: str, argument: str, value: Any) -> None:
  """Where a logarithm of the density is taken."""
  if not isinstance(value, jax.core.Tracer) and float(value) == 1.0:
    fix = 'A density that shrinks by one factor never is 0; use cubic.'
    raise ValueError(message(function, argument, 'below 1', '1.0', fix))


def check_schedule(function: str, argument: str, value: Any) -> None:
  if not callable(value):
    raise TypeError(message(function, argument, 'a function count -> sparsity', repr(value)))


def check_scheduled(function: str, value: float, count: int) -> None:
  """A schedule's value at a step."""
  if not 0 <= value <= 1:
    constraint = 'a schedule with values in [0, 1]'
    raise ValueError(message(function, 'sparsity', constraint, f'{value} at step {count}'))


def sparsity_falls(function: str, before: float, value: float, count: int) -> ValueError:
  """A schedule of a method that brings no weight back."""
  got = f'{value:.4g} after {before:.4g} at step {count}'
  fix = 'Weights that were pruned stay so; rigl and others let some come back.'
  return ValueError(message(function, 'sparsity', 'a schedule that never falls', got, fix))


def ends_early(function: str, end: int, own: int) -> ValueError:
  fix = 'Leave `end` out, or let the schedule end before it.'
  constraint = f'at least {own}, the end of the schedule'
  return ValueError(message(function, 'end', constraint, repr(end), fix))


def no_end(function: str) -> TypeError:
  fix = 'Give end=, the step at which it has its last value.'
  constraint = 'a schedule of jprune.schedules, which knows its end'
  return TypeError(message(function, 'sparsity', constraint, 'another function', fix))


def check_joined(function: str, schedules: Sequence[Any], boundaries: Sequence[Any]) -> None:
  """Schedules one after another."""
  if not schedules:
    raise ValueError(message(function, 'schedules', 'at least one schedule', '[]'))
  for i, each in enumerate(schedules):
    check_schedule(function, f'schedules[{i}]', each)
  for i, each in enumerate(boundaries):
    check_step(function, f'boundaries[{i}]', each)
  if len(boundaries) != len(schedules) - 1 or list(boundaries) != sorted(set(boundaries)):
    constraint = f'{len(schedules) - 1} ascending steps, one less than schedules'
    raise ValueError(message(function, 'boundaries', constraint, repr(list(boundaries))))


def no_masks_held(function: str, state: Any) -> ValueError:
  got = type(state).__name__
  fix = 'Pass the state of an optimizer that has a transformation of jprune in it.'
  return ValueError(message(function, 'state', 'a state with masks', got, fix))


def no_sparse_state(function: str, state: Any) -> ValueError:
  got = type(state).__name__
  fix = 'Pass what tx.init(params) or the last tx.update gave.'
  return ValueError(message(function, 'state', 'a SparseState', got, fix))


def other_schedule(function: str, found: int, expected: int) -> ValueError:
  """Numbers of weights in a state are those of the steps of the schedule it was made with."""
  constraint = f'that of a schedule with {expected} changes of sparsity'
  fix = (
    'Go on with the schedule, `every` and `end` of the state; for others begin anew: '
    'tx.init(params) with masks=masks_of(state).'
  )
  return ValueError(message(function, 'state', constraint, f'one with {found}', fix))


def check_recorded(function: str, seen: Mapping[str, Any], shape: tuple[int, ...]) -> None:
  """Metrics of one shape: that of the steps, and of the agents."""
  for name, value in seen.items():
    if np.shape(value) != shape:
      fix = 'Give count= an array where metrics are stacked over steps; agents stay as many.'
      got = f'{name!r} of shape {np.shape(value)}'
      raise ValueError(message(function, 'seen', f'metrics of shape {shape}', got, fix))


def nothing_recorded(function: str) -> ValueError:
  fix = 'Call add(state) after the steps of the training loop.'
  return ValueError(message(function, 'recorder', 'one with entries', 'none', fix))


def other_masks_held(function: str, first: Sequence[str], other: Sequence[str]) -> ValueError:
  got = differing(first, other) or 'the same leaves in another order'
  return ValueError(message(function, 'state', 'one with masks of one tree', got))


def masked_twice(function: str, path: str) -> ValueError:
  fix = 'Let one transformation prune each leaf.'
  return ValueError(message(function, 'state', 'one with one mask a leaf', 'two', fix, path))


def check_optimizer(function: str, inner: Any) -> None:
  if not all(callable(getattr(inner, name, None)) for name in ('init', 'update')):
    fix = 'Pass it first: gradual(optax.adam(1e-3), sparsity, every=100).'
    raise TypeError(message(function, 'inner', 'an optax transformation', repr(inner), fix))


def two_sets_of_params(function: str) -> TypeError:
  fix = (
    'Slow params would bring pruned weights back. With masks that stay, '
    'optax.chain(optax.lookahead(...), keep_pruned(optax.LookaheadParams(masks, masks))) works.'
  )
  got = 'optax.LookaheadParams'
  return TypeError(message(function, 'params', 'the params of a model', got, fix))


def distribution_traced(function: str) -> TypeError:
  fix = 'Call init outside of jit and vmap, or list the sparsities by distributions.fixed.'
  constraint = 'one that goes by shapes where params are traced'
  return TypeError(message(function, 'distribution', constraint, 'one that looks at scores', fix))


def no_gradients_yet(function: str) -> TypeError:
  fix = 'List the sparsities by distributions.fixed, or let another scorer speak.'
  constraint = 'one without gradients, as the distribution asks for scores at init'
  return TypeError(message(function, 'scorer', constraint, 'one that takes grads', fix))


def start_denser(function: str, path: str, kept: int, most: int) -> ValueError:
  """Masks to start from, of a method whose number of weights is given from the first step on."""
  constraint = f'masks that keep at most {most} weights, as the sparsity at step 0 has it'
  fix = 'Prune further first: jprune.prune(params, sparsity, masks=masks).'
  return ValueError(message(function, 'masks', constraint, f'{kept}', fix, path))


def not_selected_but_masked(function: str, path: str) -> ValueError:
  fix = 'Select the leaf with where=, or put keep_pruned(masks) around it for good.'
  constraint = 'None for leaves that are not pruned'
  return ValueError(message(function, 'masks', constraint, 'a mask', fix, path))


def pattern_of_its_own(function: str, pattern: Any) -> ValueError:
  constraint = 'left out, as every neuron keeps as many inputs as the others'
  return ValueError(message(function, 'pattern', constraint, repr(pattern)))


def scores_of_its_own(function: str, argument: str) -> TypeError:
  fix = 'It chooses by scores of its own.'
  return TypeError(message(function, argument, 'left out', 'a value', fix))


def check_decay(function: str, argument: str, value: Any) -> float:
  """What a running mean is multiplied by before it takes in what is at hand."""
  check_numeric(function, argument, value)
  if not 0 <= float(value) < 1:
    raise ValueError(message(function, argument, 'in [0, 1)', repr(value), '0 is no mean at all.'))
  return float(value)


def no_n_of_m(function: str, pattern: Any) -> TypeError:
  fix = 'For example jprune.masks.NOfM(2, 4).'
  return TypeError(message(function, 'pattern', 'an N:M pattern', repr(pattern), fix))


def check_starts_below(function: str, value: float, most: float) -> None:
  """A threshold on sigmoid(scores), which are 0 at first."""
  if not 0 <= value < most:
    fix = 'All scores start at 0, of which the sigmoid is 0.5: higher, everything goes at once.'
    constraint = f'in [0, {most}) at step 0'
    raise ValueError(message(function, 'threshold', constraint, repr(value), fix))


def not_a_multiple(function: str, argument: str, value: int, every: int) -> ValueError:
  fix = 'Masks change on no other step.'
  return ValueError(message(function, argument, f'a multiple of every={every}', repr(value), fix))


def no_second_moments(function: str, path: str) -> ValueError:
  fix = 'Use optax.adamw or another that keeps one of each weight, or leave `weighted` out.'
  constraint = 'an optimizer with a second moment of each weight, as Adam has it'
  return ValueError(message(function, 'inner', constraint, 'one without', fix, path))


def no_scales(function: str, paths: Sequence[str]) -> ValueError:
  fix = 'Name them with where=.'
  got = f'none that is told by its name out of {listed(paths)}'
  return ValueError(
    message(function, 'params', 'with scales of norms whose channels can go', got, fix)
  )


def no_members_named(function: str, paths: Sequence[str]) -> ValueError:
  fix = 'Trace the graph from a function of these params, or of variables that hold them.'
  got = f'none out of {listed(paths)}'
  return ValueError(message(function, 'params', 'with leaves of channel groups', got, fix))


def unknown_setting(function: str, argument: str, known: Sequence[str]) -> TypeError:
  near = difflib.get_close_matches(argument, known, 1)
  fix = f'Did you mean {near[0]}=?' if near else f'There are {listed(known)}.'
  return TypeError(message(function, argument, 'an argument that there is', 'a value', fix))


def masks_change_at_once(function: str) -> TypeError:
  fix = 'It chooses masks anew from dense weights; begin with jprune.apply(params, masks).'
  return TypeError(message(function, 'masks', 'left out', 'a value', fix))


def drop_outside(function: str, value: float, count: int) -> ValueError:
  constraint = 'a fraction in [0, 1], or a schedule of it'
  return ValueError(message(function, 'drop', constraint, f'{value:.4g} at step {count}'))
