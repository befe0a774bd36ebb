"""Functions that are traced, and what they are given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jprune._checks.words import kind, listed, message


def not_a_function(function: str, fn: Any) -> TypeError:
  fix = 'Pass model.apply, or for an NNX module jprune.nnx.functional(model).'
  constraint = 'a function of the params and further arguments'
  return TypeError(message(function, 'fn', constraint, f'{type(fn).__name__}', fix))


def not_traceable(function: str, error: Exception) -> TypeError:
  constraint = 'a function that takes these params and args and returns arrays'
  first = str(error).strip().split('\n')[0].rstrip('.')
  fix = (
    'Call fn(params, *args) by itself to see more; bind keywords and what is no array '
    'with functools.partial.'
  )
  return TypeError(message(function, 'fn', constraint, f'{type(error).__name__}: {first}', fix))


def bad_args(function: str, args: Any) -> TypeError:
  if isinstance(args, (tuple, list)):
    got = '1 argument' if len(args) == 1 else f'{len(args)} arguments'
    return TypeError(message(function, 'args', 'empty without fn', got))
  fix = 'Write args=(x,) for a function that is called fn(params, x).'
  return TypeError(message(function, 'args', 'a tuple', kind(args), fix))


def check_no_keywords(function: str, keywords: Iterable[str]) -> None:
  for name in keywords:
    fix = f'Bind it: functools.partial(fn, {name}=...).'
    raise TypeError(message(function, 'args', 'positional', f'the keyword {name!r}', fix))


def nothing_returned(function: str) -> TypeError:
  fix = 'Is a return missing?'
  return TypeError(message(function, 'fn', 'a function that returns arrays', 'no array', fix))


def other_params(
  function: str, missing: list[str], extra: list[str], found: list[str], reference: str
) -> ValueError:
  parts = [f'without {listed(missing)}'] * bool(missing)
  parts += [f'with {listed(extra)} besides'] * bool(extra)
  parts = parts or [f'several leaves of one path: {listed(found)}']
  return ValueError(
    message(function, 'params', f'a tree with the leaves of {reference}', ' and '.join(parts))
  )


def not_an_array(function: str, path: str, leaf: Any) -> TypeError:
  fix = 'Close over what is no array.'
  return TypeError(message(function, 'params', 'arrays', type(leaf).__name__, fix, path))


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
  return TypeError(message(function, 'args', 'trees of arrays', repr(leaf), fix, path))


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
  if converted:  # another library has replaced functions that fn calls
    fix = 'Call small.fn with arguments of these shapes once before it is converted.'
  got = f'inputs for which it is not: {why}'
  return ValueError(
    message(function, 'args', f"such that axis {axis} of leaf '{path}' may lose channels", got, fix)
  )


def read_only() -> TypeError:
  return TypeError('What plans and channel graphs hold is read-only. Change a copy: dict(...).')


def damaged_plan(function: str, entry: str, missing: bool) -> ValueError:
  got = f'none under {entry!r}' if missing else f'something else under {entry!r}'
  return ValueError(message(function, 'data', 'what plan.to_dict returns', got))


def foreign_plan(function: str, data: Any) -> ValueError:
  fix = 'Use this version of jprune or a newer one than wrote it.'
  got = f'format {data.get("format")!r}' if isinstance(data, dict) else type(data).__name__
  return ValueError(message(function, 'data', 'what plan.to_dict returns, format 1', got, fix))


def no_place(
  function: str, path: str, shape: tuple[int, ...], param: str, full: tuple[int, ...]
) -> ValueError:
  constraint = f"of shape {full}, as the param '{param}' that it belongs to by its path"
  fix = 'Initialise it anew from the small params.'
  return ValueError(message(function, 'other', constraint, f'shape {shape}', fix, path))


def no_places(function: str, paths: list[str]) -> ValueError:
  constraint = 'a tree whose leaves end in the paths of params'
  return ValueError(message(function, 'other', constraint, f'leaves {listed(paths)}'))


def several_places(function: str, path: str, params: Iterable[str]) -> ValueError:
  constraint = 'a tree each leaf of which belongs to one param by the end of its path'
  got = f'a leaf that fits {listed(params)}'
  fix = 'Pass a tree with more of the keys of the params.'
  return ValueError(message(function, 'other', constraint, got, fix, path))


def no_batches(function: str, unit: str = 'batch') -> ValueError:
  return ValueError(
    message(function, f'{unit}es' if unit == 'batch' else f'{unit}s', 'at least one', 'none')
  )


def bad_weights(function: str, least: float) -> ValueError:
  return ValueError(message(function, 'weights', 'at least 0', f'{least:.6g}'))


def weights_not_a_function(function: str, weights: Any) -> TypeError:
  constraint = 'a function of a batch, which returns the weights of its tokens'
  return TypeError(message(function, 'weights', constraint, kind(weights)))


def words_no_stats(path: str, why: str | None) -> str:
  """What a lookup of a leaf that was not captured says."""
  return f"no statistics of leaf '{path}': {why or 'it was not selected, or is no leaf'}"


def no_stats(function: str, path: str, why: str | None) -> ValueError:
  constraint = 'statistics of every leaf that is to be scored'
  fix = 'Exclude the leaf with where=, or capture it.'
  got = f'none ({why})' if why else 'none'
  return ValueError(message(function, 'stats', constraint, got, fix, path))


def no_gram(function: str, path: str) -> ValueError:
  constraint = 'captured with gram=True'
  return ValueError(message(function, 'stats', constraint, 'moments without products', '', path))


def no_products() -> ValueError:
  return ValueError('these moments hold no products of inputs; capture with gram=True')


def other_stats(function: str) -> ValueError:
  constraint = 'statistics of the same function and leaves'
  return ValueError(message(function, 'other', constraint, 'those of others'))


def not_stats(function: str, stats: Any) -> TypeError:
  fix = 'Capture them with jprune.graph.capture_batches(fn, params, batches, gram=True).'
  return TypeError(message(function, 'stats', 'statistics of inputs', kind(stats), fix))


def no_rows(function: str, path: str) -> ValueError:
  fix = 'Capture a batch in which the leaf is used, with weights= that are not all 0.'
  return ValueError(message(function, 'stats', 'of at least one row', 'none', fix, path))


def not_finite_inputs(function: str, path: str, batch: int) -> ValueError:
  got = f'infinite or NaN inputs of that leaf in batch {batch}'
  fix = 'Look at the data, or at the params, for overflow.'
  return ValueError(
    message(function, 'batches', 'such that activations are finite', got, fix, path)
  )


def check_batches(function: str, batches: Any) -> None:
  if not hasattr(batches, '__iter__') or hasattr(batches, 'shape') or isinstance(batches, dict):
    fix = 'Write [batch] for a single one.'
    raise TypeError(message(function, 'batches', 'an iterable of batches', kind(batches), fix))


def other_tokens(
  function: str, shape: tuple[int, ...], shapes: list[tuple[int, ...]]
) -> ValueError:
  constraint = 'an array whose shape is how that of an argument begins'
  got = f'shape {shape}, and arguments of shapes {", ".join(map(str, shapes))}'
  return ValueError(message(function, 'weights', constraint, got))
