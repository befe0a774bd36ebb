"""What is said when something is wrong; every message names function, argument, value and fix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jprune._checks.words import kind, listed, message, shown

UNUSED = 'fn does not use it'  # why an axis of a param is frozen


def not_traceable(function: str, error: Exception, args: Any = ()) -> TypeError:
  constraint = 'a function that takes these params and args and returns arrays'
  first = str(error).strip().split('\n')[0].rstrip('.:')
  fix = (
    'Call fn(params, *args) by itself to see more; bind keywords and what is no array '
    'with functools.partial.'
  )
  if function == 'capture' and any(isinstance(each, list) for each in args):
    fix = (
      'One of the args is a list, which is one argument: several batches go, one after the other, '
      'into capture_batches(fn, params, batches).'
    )
  return TypeError(message(function, 'fn', constraint, f'{type(error).__name__}: {first}', fix))


def nothing_returned(function: str) -> TypeError:
  fix = 'Is a return missing?'
  return TypeError(message(function, 'fn', 'a function that returns arrays', 'no array', fix))


def param_without_values(function: str, path: str, leaf: Any) -> TypeError:
  fix = 'Pass values: the function runs.'
  return TypeError(message(function, 'params', 'arrays', f'the shape of {kind(leaf)}', fix, path))


def not_drawn(function: str, path: str, leaf: Any) -> TypeError:
  constraint = 'arrays, or shapes of floating ones, which are drawn'
  fix = 'Pass an array, for example token ids.'
  return TypeError(message(function, 'args', constraint, f'the shape of {kind(leaf)}', fix, path))


def bad_kept(function: str, groups: int, got: str) -> ValueError:
  constraint = f'a bool array of its size for each group, {groups} in all'
  return ValueError(message(function, 'kept', constraint, got))


def no_masks(function: str) -> TypeError:
  constraint = 'a tree of the structure of the params'
  fix = 'Make masks with jprune.masks.channels.'
  return TypeError(message(function, 'masks', constraint, 'None', fix))


def argument_no_array(function: str, path: str, leaf: Any) -> TypeError:
  fix = 'Bind what is no array: functools.partial(fn, name=value), or a lambda.'
  return TypeError(message(function, 'args', 'trees of arrays', shown(leaf), fix, path))


def other_shape(function: str, path: str, leaf: Any, shape: tuple[int, ...]) -> ValueError:
  return ValueError(message(function, 'params', f'of shape {shape}', kind(leaf), '', path))


def mask_without_values(function: str, path: str, mask: Any) -> TypeError:
  fix = 'Which channels go has to be known while tracing: close over the masks.'
  return TypeError(message(function, 'masks', 'arrays with values at hand', kind(mask), fix, path))


def not_group_consistent(
  function: str, group: str, unit: int, pruned: str, kept: str, others: int
) -> ValueError:
  more = f' (and {others} more such units)' if others else ''
  return ValueError(
    f'{function}: `masks` must prune a unit in all members of its group or in none; unit {unit} of '
    f"group '{group}' is pruned at leaf '{pruned}' but not at leaf '{kept}'{more}. Make masks with "
    'jprune.masks.channels and the graph of this very function, or pass strict=False to keep such '
    'units.'
  )


def not_shrinkable(
  function: str, path: str, axis: int, why: str, converted: bool = False
) -> ValueError:
  fix = 'Shrink for such inputs anew.'
  if why == UNUSED:
    fix += ' If fn is not the function that was shrunk, pass that one to load_shrunk.'
  if converted:  # another library has replaced functions that fn calls
    fix = 'Call small.fn with arguments of these shapes once before it is converted.'
  got = f'inputs for which it is not: {why}'
  return ValueError(
    message(function, 'args', f"such that axis {axis} of leaf '{path}' may lose channels", got, fix)
  )


def read_only() -> TypeError:
  return TypeError('What plans and channel graphs hold is read-only. Change a copy: dict(...).')


def bad_sample_weights(function: str, least: float) -> ValueError:
  return ValueError(message(function, 'sample_weights', 'at least 0', f'{least:.6g}'))


def sample_weights_not_a_function(function: str, weights: Any) -> TypeError:
  constraint = 'a function of a batch, which returns the weights of its tokens'
  return TypeError(message(function, 'sample_weights', constraint, kind(weights)))


def words_no_stats(path: str, why: str | None) -> str:
  """What a lookup of a leaf that was not captured says."""
  return f"no statistics of leaf '{path}': {why or 'it was not selected, or is no leaf'}"


def no_products() -> ValueError:
  return ValueError('these moments hold no products of inputs; capture with gram=True')


def other_stats(function: str) -> ValueError:
  constraint = 'statistics of the same function and leaves'
  return ValueError(message(function, 'other', constraint, 'those of others'))


def not_finite_inputs(function: str, path: str, batch: int) -> ValueError:
  got = f'infinite or NaN inputs of that leaf in batch {batch}'
  fix = 'Look at the data, or at the params, for overflow.'
  return ValueError(
    message(function, 'batches', 'such that activations are finite', got, fix, path)
  )


def other_tokens(
  function: str, shape: tuple[int, ...], shapes: list[tuple[int, ...]]
) -> ValueError:
  constraint = 'an array whose shape is how that of an argument begins'
  got = f'shape {shape}, and arguments of shapes {", ".join(map(str, shapes))}'
  return ValueError(message(function, 'sample_weights', constraint, got))


def bad_filter(function: str, where: Any, argument: str, error: Any = None) -> Exception:
  if error is not None:
    fix = 'Escape special characters, or pass a predicate (path, leaf) -> bool.'
    got = f'{where!r} ({error})'
    return ValueError(message(function, argument, 'a regular expression', got, fix))
  constraint = 'a regular expression, or a predicate (path, leaf) -> bool'
  return TypeError(message(function, argument, constraint, shown(where)))


def nothing_named(function: str, where: Any, paths: Sequence[str], argument: str) -> ValueError:
  constraint = 'a filter that selects a leaf'
  got = f'{where!r}, which selects none of {listed(paths)}'
  return ValueError(message(function, argument, constraint, got))


def other_rule(where: str) -> ValueError:
  constraint = 'one whose derivative rules treat pruned channels alike at every order'
  got = (
    f'one of the third order or a higher one that ties them to others ({where or "unknown line"})'
  )
  fix = 'Differentiate at most twice, or keep these channels.'
  return ValueError(message('small.fn', 'fn', constraint, got, fix))
