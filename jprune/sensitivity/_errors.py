"""What is said when something is wrong; every message names function, argument, value and fix."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jprune._checks.arrays import check_fraction
from jprune._checks.words import kind, listed, message, shown


def check_called(function: str, argument: str, value: Any, call: str) -> None:
  """``call`` shows how the function is called, and what it returns."""
  if not callable(value):
    fix = f'Pass a function {call}.'
    raise TypeError(message(function, argument, 'a function', kind(value), fix))


def check_takes(function: str, argument: str, value: Any, count: int, fix: str) -> None:
  """Whether a function that is only called much later can be, with so many arguments."""
  try:
    signature = inspect.signature(value)
  except (ValueError, TypeError):  # a builtin without a signature
    return
  try:
    signature.bind(*range(count))
  except TypeError as error:
    got = f'{getattr(value, "__qualname__", kind(value))}, which takes others ({error})'
    raise TypeError(
      message(function, argument, f'a function of {count} arguments', got, fix)
    ) from None


def as_metric(function: str, argument: str, value: Any, when: str, finite: bool = True) -> float:
  """What ``evaluate`` returned, as a Python float, finite unless that is left to the caller."""
  constraint = f'a function that returns one finite number ({when})'
  fix = 'For example the accuracy on validation data.'
  if isinstance(value, Tracer):
    raise TypeError(message(function, argument, constraint, 'a traced one', 'Call it outside jit.'))
  number = _real(value)
  if number is None:
    raise TypeError(message(function, argument, constraint, kind(value), fix))
  if finite and not np.isfinite(number):
    raise ValueError(message(function, argument, constraint, f'{number!r}', fix))
  return number


def _real(value: Any) -> float | None:
  """A real number, or an array that is one, as a float; ``None`` for bools and all else."""
  if hasattr(value, 'shape') and hasattr(value, 'dtype'):
    try:
      value = np.asarray(value)
    except TypeError:  # traced, or a random key
      return None
    real = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
    return float(value) if real and value.shape == () else None
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    return None
  try:
    return float(value)
  except OverflowError:
    return float('inf')


def as_sparsities(function: str, sparsities: Any) -> tuple[float, ...]:
  """Ascending, each once."""
  fix = 'For example (0.0, 0.5, 0.9).'
  if isinstance(sparsities, (str, bytes)) or not hasattr(sparsities, '__iter__'):
    got = shown(sparsities)
    raise TypeError(message(function, 'sparsities', 'a sequence of numbers in [0, 1]', got, fix))
  values = list(sparsities)
  if not values:
    raise ValueError(message(function, 'sparsities', 'at least one number in [0, 1]', 'none', fix))
  for value in values:
    if isinstance(value, Tracer):
      raise TypeError(message(function, 'sparsities', 'numbers at hand', 'a traced one', ''))
    check_fraction(function, 'sparsities', value)
  return tuple(sorted({float(value) for value in values}))


def to_bind(function: str, scorer: Any, missing: Sequence[str]) -> TypeError:
  """A scorer that takes more than the params."""
  name = getattr(getattr(scorer, 'func', scorer), '__name__', 'scorer')
  given = ', '.join(f'{x}=jax.random.key(0)' if x == 'key' else f'{x}={x}' for x in missing)
  got = f'{name}, which also takes {listed(missing)}'
  fix = f'Bind it: functools.partial({name}, {given}).'
  return TypeError(message(function, 'scorer', 'a function of the params', got, fix))


def not_by_sparsity(function: str, pattern: Any) -> ValueError:
  constraint = 'one that can be had at any sparsity'
  fix = 'It has a single sparsity, its own: evaluate that.'
  return ValueError(message(function, 'pattern', constraint, shown(pattern), fix))


def not_with_graph(function: str, argument: str) -> ValueError:
  constraint = 'left out where a graph is given'
  fix = 'The channel groups are what is pruned then.'
  return ValueError(message(function, argument, constraint, 'both', fix))


def not_a_table(function: str, path: str) -> ValueError:
  fix = 'Name another file; this one is left as it is.'
  got = f'{path!r}, which holds something else'
  return ValueError(
    message(function, 'table', f'a new file, or one that {function} wrote', got, fix)
  )


def table_of_another_run(function: str, path: str, fields: Sequence[str]) -> ValueError:
  fix = 'Name another file, or delete it.'
  got = f'{path!r}, of a run with other {" and ".join(fields)}'
  return ValueError(message(function, 'table', 'a new file, or one of the same run', got, fix))


def broken_table(function: str, path: str, line: int, why: str) -> ValueError:
  fix = 'Delete the line, or the file.'
  got = f'{path!r}, whose line {line} is no point of this run: {why}'
  return ValueError(message(function, 'table', 'an undamaged file', got, fix))


def foreign_dict(function: str, why: str) -> ValueError:
  return ValueError(message(function, 'data', 'what to_dict() returned', why))


def not_measured(function: str, sparsity: Any, measured: Sequence[float]) -> ValueError:
  some = ', '.join(f'{s:g}' for s in measured)
  return ValueError(
    message(function, 'sparsity', f'one of those measured ({some})', shown(sparsity))
  )


def no_sensitivity(function: str, value: Any) -> TypeError:
  fix = 'Measure it with jprune.sensitivity.curves(evaluate, params).'
  return TypeError(message(function, 'sensitivity', 'a Sensitivity', kind(value), fix))


def bad_amount(function: str, argument: str, value: Any) -> Exception:
  constraint = 'an int of at least 0, or a fraction in (0, 1] of the dense model'
  error = ValueError if isinstance(value, numbers.Real) else TypeError
  return error(message(function, argument, constraint, shown(value)))


def count_needed(function: str, count: Any) -> TypeError:
  fix = 'Pass count=jprune.graph.macs(fn, params, *args).'
  return TypeError(message(function, 'count', 'a MacCount where macs= is given', kind(count), fix))


def count_not_wanted(function: str) -> TypeError:
  return TypeError(message(function, 'count', 'left out without macs=', 'one', ''))


def count_of_others(function: str, missing: Sequence[str]) -> ValueError:
  fix = 'Count the function of the same params.'
  got = f'one without {listed(missing)}'
  return ValueError(message(function, 'count', 'a MacCount with the measured leaves', got, fix))


def channels_multiply(function: str, argument: str) -> ValueError:
  constraint = 'None for a sensitivity of channel groups, whose shares of it multiply'
  fix = (
    f'Pass sparsity=, the fraction of channels; or jprune.masks.channels(target_{argument}=...).'
  )
  return ValueError(message(function, argument, constraint, 'a number', fix))


def budget_unreachable(
  function: str, argument: str, value: Any, need: int, most: int, unit: str
) -> ValueError:
  constraint = f'within reach of the measured sparsities, which prune at most {most:,} {unit}'
  got = f'{value!r}, which takes {need:,}'
  return ValueError(message(function, argument, constraint, got, 'Measure higher sparsities.'))


def too_many_to_count(function: str, argument: str) -> ValueError:
  return ValueError(message(function, argument, 'a count below 2**62', 'a larger one'))


def not_leaves(function: str) -> TypeError:
  fix = 'Pass it on: jprune.masks.channels(scores, graph, allocation).'
  constraint = 'a distribution over leaves'
  return TypeError(message(function, 'distribution', constraint, 'one over channel groups', fix))


def allocation_below(function: str, low: float, most: float) -> ValueError:
  """The search would have to begin above all that an allocation can give."""
  constraint = f'below {most:.4g}: the allocation covers only {most:.1%} of the selected weights'
  fix = 'Lower it, or select the same leaves as in curves, with where=.'
  return ValueError(message(function, 'low', constraint, shown(low), fix))


def allocation_unreachable(function: str, value: float, most: float) -> ValueError:
  constraint = f'at most {most:.4f}, for the leaves that were not measured stay dense'
  fix = 'Select the same leaves as in curves, with where=.'
  return ValueError(message(function, 'sparsity', constraint, shown(value), fix))


def finite_number(function: str, argument: str, value: Any, path: str | None = None) -> float:
  number = _real(value)
  if number is None:
    raise TypeError(message(function, argument, 'a number at hand', shown(value), '', path))
  if not np.isfinite(number):
    raise ValueError(message(function, argument, 'finite', shown(number), '', path))
  return number


def empty_accuracies(function: str) -> ValueError:
  fix = "For example {'Dense_0/kernel': 0.93}, or sensitivity.at(0.5)."
  return ValueError(
    message(function, 'accuracy', 'a number or a non-empty dict', 'an empty one', fix)
  )


def one_budget(function: str, given: Sequence[str]) -> TypeError:
  constraint = "given alone: exactly one of 'sparsity' and 'min_metric'"
  fix = 'For example sparsity=0.5.' if not given else 'Leave one out.'
  got = listed(given) if given else 'none of them'
  return TypeError(message(function, 'sparsity', constraint, got, fix))


def own_sparsity(function: str, argument: str, what: str) -> ValueError:
  constraint = f'left out: {what} knows its own sparsities'
  return ValueError(message(function, argument, constraint, 'a number'))


def floor_unreachable(
  function: str, floor: float, sparsity: float, metric: float, error: float
) -> ValueError:
  what = f'at the lowest sparsity, {sparsity:g}' if sparsity else 'of the dense model'
  constraint = f'at most the metric {what}: {metric!r}'
  fix = 'Lower the floor.'
  if floor - metric <= error:
    fix = f'They differ by less than the noise ({error:.2g}): lower it, or pass more repeats=.'
  return ValueError(message(function, 'min_metric', constraint, shown(floor), fix))


def not_tuned(function: str, path: str, leaf: Any, expected: Any) -> ValueError:
  constraint = 'a function that returns params of the same shapes and dtypes'
  got = f'{kind(leaf)} for {kind(expected)}'
  return ValueError(message(function, 'finetune', constraint, got, '', path))


def nothing_tuned(function: str) -> TypeError:
  fix = 'Is a return missing?'
  return TypeError(message(function, 'finetune', 'a function that returns params', 'None', fix))


def out_of_order(function: str, low: float, high: float) -> ValueError:
  constraint = f'greater than low={low:g}'
  return ValueError(message(function, 'high', constraint, shown(high)))
