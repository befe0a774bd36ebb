"""What is said when something is wrong; every message names function, argument, value and fix."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from jprune import schedules
from jprune._checks.arrays import check_numeric
from jprune._checks.words import differing, listed, message, shown


def missing_params(function: str) -> ValueError:
  """No params in ``update``: never given, or dropped by what is wrapped around."""
  fix = 'Call tx.update(updates, state, params).'
  if wrapper := _drops_params(sys._getframe(1)):
    fix = f'{wrapper} was given them and passes none on: put what prunes outside of it.'
  return ValueError(message(function, 'params', 'the params that the updates are for', 'None', fix))


def _drops_params(frame: Any) -> str | None:
  """The innermost ``update`` on the way here that has params, by its name in its package."""
  while frame is not None:
    code = frame.f_code
    arguments = code.co_varnames[: code.co_argcount]
    takes_both = 'updates' in arguments and 'params' in arguments
    # a training step that forgets its params is no wrapper
    if takes_both and 'update' in code.co_name and frame.f_locals['params'] is not None:
      package = frame.f_globals.get('__name__', '').split('.')[0]
      return f'{package}.{code.co_qualname.split(".")[0]}'
    frame = frame.f_back
  return None


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


def enclosed_masks(function: str, aval: Any) -> ValueError:
  """Masks that span processes, for an ``init`` that is compiled."""
  constraint = 'arguments of what jax.jit compiles, as they span processes'
  fix = (
    f'Call tx.init outside of jax.jit; or make the transformation inside: '
    f'jax.jit(lambda params, masks: {function}(masks).init(params))(params, masks).'
  )
  return ValueError(message(function, 'masks', constraint, f'{aval.str_short()}, closed over', fix))


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
  return ValueError(message(function, 'end', constraint, shown(end), fix))


def check_made(function: str, sparsity: Any) -> None:
  """Refuses what makes a schedule, in the place of the schedule."""
  name = getattr(sparsity, '__name__', '')
  if name in schedules.__all__ and sparsity is getattr(schedules, name):
    fix = f'Call it: help(jprune.schedules.{name}) says with what.'
    raise TypeError(message(function, 'sparsity', 'a number or a schedule', shown(sparsity), fix))


def no_end(function: str) -> TypeError:
  fix = 'Give end=, the step at which it has its last value.'
  constraint = 'a schedule of jprune.schedules, which knows its end'
  return TypeError(message(function, 'sparsity', constraint, 'another function', fix))


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


def flattened(function: str) -> ValueError:
  constraint = 'for the params that `init` sees'
  fix = 'optax.flatten hides their leaves: optax.chain(optax.flatten(...), keep_pruned(masks)).'
  got = 'a tree for a single vector'
  return ValueError(message(function, 'masks', constraint, got, fix))


def check_optimizer(function: str, inner: Any, argument: str = 'inner') -> None:
  if not all(callable(getattr(inner, name, None)) for name in ('init', 'update')):
    fix = (
      'Pass it first: gradual(optax.adam(1e-3), sparsity, every=100).'
      if argument == 'inner'
      else 'For example optax.chain(optax.adam(1e-3), jprune.keep_pruned(masks)).'
    )
    raise TypeError(message(function, argument, 'an optax transformation', shown(inner), fix))


def not_kept_at_zero(
  function: str, step: int, leaves: Sequence[tuple[str, int, int]], from_zero: bool, fix: str
) -> ValueError:
  """Pruned weights that are not zero after a step; of each leaf how many, of how many."""
  (path, alive, pruned), *others = leaves
  constraint = 'an optimizer after whose steps pruned weights are 0.0'
  how = 'come back' if from_zero else 'were not 0.0 before and still are not'
  got = f'{alive} of {pruned} pruned weights that {how}, in step {step},'
  more = f'So do those of {listed(path for path, *_ in others)}. ' if others else ''
  return ValueError(message(function, 'tx', constraint, got, more + fix, path))


def holds_no_masks(function: str) -> ValueError:
  fix = 'End the chain with jprune.keep_pruned(masks).'
  return ValueError(message(function, 'tx', 'an optimizer that holds masks', 'one without', fix))


def never_moves(function: str, calls: int) -> ValueError:
  constraint = f'an optimizer that moves weights within calls={calls} of its calls'
  fix = 'Raise calls= above the length of its warm-up or accumulation.'
  return ValueError(message(function, 'tx', constraint, 'one that moved none', fix))


def two_sets_of_params(function: str) -> TypeError:
  fix = (
    'Slow params would bring pruned weights back. With masks that stay, '
    'optax.chain(optax.lookahead(...), keep_pruned(optax.LookaheadParams(masks, masks))) works.'
  )
  got = 'optax.LookaheadParams'
  return TypeError(message(function, 'params', 'the params of a model', got, fix))


def distribution_traced(function: str) -> TypeError:
  fix = (
    'Call init outside of jit and vmap, or list the sparsities by distributions.fixed. If it goes '
    'by shapes, let it say needs_scores = False.'
  )
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
  return ValueError(message(function, 'pattern', constraint, shown(pattern)))


def scores_of_its_own(function: str, argument: str) -> TypeError:
  fix = 'It chooses by scores of its own.'
  return TypeError(message(function, argument, 'left out', 'a value', fix))


def check_decay(function: str, argument: str, value: Any) -> float:
  """What a running mean is multiplied by before it takes in what is at hand."""
  check_numeric(function, argument, value)
  if not 0 <= float(value) < 1:
    raise ValueError(message(function, argument, 'in [0, 1)', shown(value), '0 is no mean at all.'))
  return float(value)


def no_n_of_m(function: str, pattern: Any) -> TypeError:
  fix = 'For example jprune.NOfM(2, 4).'
  return TypeError(message(function, 'pattern', 'an N:M pattern', shown(pattern), fix))


def check_starts_below(function: str, value: float, most: float) -> None:
  """A threshold on sigmoid(scores), which are 0 at first."""
  if not 0 <= value < most:
    fix = 'All scores start at 0, of which the sigmoid is 0.5: higher, everything goes at once.'
    constraint = f'in [0, {most}) at step 0'
    raise ValueError(message(function, 'threshold', constraint, shown(value), fix))


def not_a_multiple(function: str, argument: str, value: int, every: int) -> ValueError:
  fix = 'Masks change on no other step.'
  return ValueError(message(function, argument, f'a multiple of every={every}', shown(value), fix))


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


def masks_change_at_once(function: str) -> TypeError:
  fix = 'It chooses masks anew from dense weights; begin with jprune.apply(params, masks).'
  return TypeError(message(function, 'masks', 'left out', 'a value', fix))


def drop_outside(function: str, value: float, count: int) -> ValueError:
  constraint = 'a fraction in [0, 1], or a schedule of it'
  return ValueError(message(function, 'drop', constraint, f'{value:.4g} at step {count}'))
