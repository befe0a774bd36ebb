"""What is said when something is wrong; every message names function, argument, value and fix."""

from __future__ import annotations

import difflib
import os
from typing import Any

from jprune import _checks, scores
from jprune._checks.scorers import bad_scorer
from jprune._checks.words import kind, listed, message, quoted, shown
from jprune.graph import Stats

_EXCLUDE = 'Exclude the leaf with where=.'


_BEFORE = 'Mask and scale the params before they go into fn'


def not_repairable_pattern(function: str, pattern: Any) -> TypeError:
  constraint = 'Unstructured() or an NOfM'
  fix = 'For other patterns prune first, and repair with jprune.reconstruct.least_squares.'
  return TypeError(message(function, 'pattern', constraint, shown(pattern), fix))


def check_stats_second(function: str, stats: Any, masks: Any) -> None:
  """Refuses a call in which statistics and masks have changed places."""
  if isinstance(masks, Stats):
    constraint = 'statistics of inputs, and `masks` a tree of masks'
    fix = f'Statistics come second: {function}(params, stats, masks).'
    raise TypeError(message(function, 'stats', constraint, f'{kind(stats)} and Stats', fix))


def not_finite_gram(function: str, path: str, line: str) -> ValueError:
  got = f'infinite or NaN moments{f" of the product at {line}" if line else ""}'
  fix = 'Look at the data, or at the params, for overflow.'
  return ValueError(message(function, 'stats', 'finite', got, fix, path))


def not_finite_weights(function: str, path: str) -> ValueError:
  fix = 'They cannot be made up for by others.'
  return ValueError(message(function, 'params', 'finite', 'infinite or NaN weights', fix, path))


def not_finite_repair(function: str, path: str, leaf: Any) -> ValueError:
  constraint = 'of a dtype that holds what makes up for the pruned weights'
  fix = 'Cast the leaf to a dtype of a larger range, divide it by a number, or damp more.'
  return ValueError(message(function, 'params', constraint, f'{leaf.dtype}', fix, path))


def not_direct(function: str, path: str, line: str) -> ValueError:
  constraint = 'statistics of products with the weights themselves'
  got = f'a product with what is computed from them{f" ({line})" if line else ""}'
  fix = f'{_BEFORE}, or exclude the leaf with where=.'
  return ValueError(message(function, 'stats', constraint, got, fix, path))


def overlapping_uses(function: str, path: str, lines: list[str]) -> ValueError:
  constraint = 'such that each weight is multiplied in one way'
  where = listed([line for line in lines if line])
  got = f'a leaf that is used in several{f" ({where})" if where else ""}'
  return ValueError(message(function, 'stats', constraint, got, _EXCLUDE, path))


def partly_used(function: str, path: str, used: int, size: int) -> ValueError:
  constraint = 'statistics of all of a leaf'
  got = f'those of {used:,} of {size:,} weights'
  return ValueError(message(function, 'stats', constraint, got, _EXCLUDE, path))


def no_input_axis(
  function: str, axis: int, path: str, shape: tuple[int, ...], line: str
) -> ValueError:
  constraint = 'one along an axis that is summed over in the product'
  got = f'axis {axis} of shape {shape}, which is not{f" at {line}" if line else ""}'
  fix = 'Choose the axis of the inputs, or exclude the leaf with where=.'
  return ValueError(message(function, 'pattern', constraint, got, fix, path))


def groups_cut(
  function: str, axis: int, path: str, shape: tuple[int, ...], pattern: Any, line: str
) -> ValueError:
  padded = ' There is no pad=True for products.' if pattern.pad else ''
  return ValueError(
    f"{function}: axis {axis} of leaf '{path}' must be divisible by m={pattern.m}, also in each "
    f'part of it that a product uses; got shape {shape}{f" (at {line})" if line else ""}. '
    f'Exclude the leaf with where=, or choose another size.{padded}'
  )


def check_flag(function: str, argument: str, value: Any) -> None:
  if not isinstance(value, bool):
    raise TypeError(message(function, argument, 'True or False', shown(value)))


def nothing_captured(function: str, why: list[tuple[str, str]]) -> ValueError:
  shown = '; '.join(f"'{path}': {reason}" for path, reason in why[:3])
  constraint = 'a function with products by at least one selected leaf'
  computed = any('computed from' in reason for _, reason in why)
  fix = f'{_BEFORE}: it must multiply by the params themselves.' if computed else ''
  return ValueError(message(function, 'fn', constraint, f'none ({shown})', fix))


def batches_read_once(function: str) -> TypeError:
  fix = 'Pass a list, or a loader that can be iterated over again.'
  constraint = 'an iterable that can be read several times'
  return TypeError(message(function, 'batches', constraint, 'an iterator', fix))


def bad_call(function: str, method: Any, why: str) -> TypeError:
  constraint = 'a function (params, stats, sparsity, *, pattern, where), as sparsegpt is'
  if fix := _scorer_alone(method):
    return TypeError(message(function, 'method', constraint, shown(method), fix))
  fix = 'Bind options with functools.partial.'
  return TypeError(message(function, 'method', constraint, f'{shown(method)} ({why})', fix))


_SOLVERS = ('sparsegpt', 'alps', 'least_squares')


def _solver_meant(method: Any) -> str:
  """What to pass for a method: the solver of a name, or a scorer where that is meant."""
  name = method.lower().replace('-', '_') if isinstance(method, str) else ''
  if near := difflib.get_close_matches(name, _SOLVERS, 1):
    return f'Pass the function itself: jprune.reconstruct.{near[0]}.'
  return _scorer_alone(method) or 'For example jprune.reconstruct.sparsegpt.'


def _scorer_alone(method: Any) -> str:
  """What to pass for a scorer that was given as a method; empty for anything else."""
  public = {name: getattr(scores, name) for name in scores.__all__}
  given = getattr(method, 'func', method)
  found = [name for name, each in public.items() if given is each]
  if isinstance(method, str):
    found = difflib.get_close_matches(method.lower(), public, 1)
  if not found:
    return ''
  return f'To prune by a scorer alone: method=None, scorer=jprune.scores.{found[0]}.'


def scorer_needs(function: str, scorer: Any, missing: list[str]) -> TypeError:
  constraint = 'a function of params alone, or of params and stats'
  got = f'{getattr(scorer, "__name__", scorer)}, which needs {listed(missing)}'
  fix = 'Bind them with functools.partial, or lambda params: ... around it.'
  return TypeError(message(function, 'scorer', constraint, got, fix))


def bad_method(function: str, method: Any) -> TypeError:
  constraint = 'a function such as jprune.reconstruct.sparsegpt, or None'
  return TypeError(message(function, 'method', constraint, shown(method), _solver_meant(method)))


def not_planned(function: str, method: Any) -> TypeError:
  constraint = 'sparsegpt, alps, least_squares or None'
  fix = 'Pass None for masks by a scorer.' if _scorer_alone(method) else _solver_meant(method)
  return TypeError(message(function, 'method', constraint, shown(method), fix))


def is_solver(scorer: Any) -> bool:
  """Whether a solver, or its name, was given as a scorer."""
  module, name = getattr(scorer, '__module__', ''), getattr(scorer, '__name__', scorer)
  return name in _SOLVERS and (scorer is name or module.startswith('jprune.reconstruct.'))


def not_a_scorer(function: str, scorer: Any) -> TypeError:
  if is_solver(scorer):
    name = getattr(scorer, '__name__', scorer)
    fix = f'It is a method: method=jprune.reconstruct.{name}.'
    return TypeError(message(function, 'scorer', 'a function of params', shown(scorer), fix))
  if isinstance(scorer, str) or callable(scorer):
    return bad_scorer(function, scorer, 'a function')
  fix = 'For example jprune.scores.wanda, or lambda params: scores for those that are known.'
  return TypeError(message(function, 'scorer', 'a function', type(scorer).__name__, fix))


def check_out(function: str, checkpoint: Any, out: Any) -> None:
  """Refuses a folder for params in memory, and a checkpoint without one."""
  if checkpoint is None and out is not None:
    fix = 'Save what comes back with jprune.save, or pass params as jprune.io.open(path).'
    raise TypeError(message(function, 'out', 'None for params in memory', shown(out), fix))
  if checkpoint is not None and out is None:
    fix = 'Leaves are written to it as they are pruned.'
    raise TypeError(message(function, 'out', 'a folder for params of a checkpoint', 'None', fix))


def checkpoint_of_one_process(function: str, count: int) -> ValueError:
  fix = 'Read what the devices of each hold with jprune.load(path, like=...).'
  constraint = 'arrays where there are several processes'
  got = f'Checkpoint in one of {count}'
  return ValueError(message(function, 'params', constraint, got, fix))


def check_cache_dir(function: str, folder: Any, sequential: bool) -> None:
  """Refuses a folder that isn't there, or for what nothing waits in."""
  if folder is None:
    return
  name = _checks.as_path(function, folder, 'cache_dir', folders=True)
  if not sequential:
    fix = 'Nothing waits where the model is run as a whole.'
    raise ValueError(message(function, 'cache_dir', 'None unless sequential', quoted(name), fix))
  if not os.path.isdir(name):
    constraint, fix = 'an existing folder', 'Create it first.'
    raise FileNotFoundError(message(function, 'cache_dir', constraint, quoted(name), fix))


def checkpoint_in_turn(function: str) -> ValueError:
  fix = 'Leaves are read, pruned and written one after the other.'
  return ValueError(message(function, 'sequential', 'True for a checkpoint', 'False', fix))


def checkpoint_masked(function: str) -> ValueError:
  fix = 'To prune further, read its params with jprune.load.'
  return ValueError(message(function, 'masks', 'None for a checkpoint', 'a tree', fix))
