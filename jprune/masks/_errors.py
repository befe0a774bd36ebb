"""What is said when something is wrong; every message names function, argument, value and fix."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jprune._checks.arrays import check_fraction, check_numeric, check_positive_int
from jprune._checks.selection import check_int, static_fraction
from jprune._checks.words import kind, listed, message, shown


def check_same_dtype(function: str, argument: str, path: str, leaf: Any, like: Any) -> None:
  dtype = jnp.result_type(like)
  if jnp.result_type(leaf) != dtype:
    fix = 'Cast it first; what is rounded and what is not should be seen.'
    raise TypeError(message(function, argument, f'of dtype {dtype}', kind(leaf), fix, path))


def inputs_not_known(function: str, path: str, leaf: Any) -> ValueError:
  constraint = 'given where nothing else tells which axes of a leaf are its inputs'
  fix = 'Pass jprune.graph.roles(fn, params, *args).'
  return ValueError(message(function, 'roles', constraint, kind(leaf), fix, path))


def not_for_each_layer(function: str, got: int, stack: int) -> ValueError:
  constraint = f'a number, or {stack} of them' if stack else 'a number for a leaf that is no stack'
  fix = 'Pass the roles that the distribution was given.'
  return ValueError(message(function, 'sparsities', constraint, f'{got} of them', fix))


def check_n_of_m(function: str, n: Any, m: Any) -> None:
  check_positive_int(function, 'm', m)
  check_positive_int(function, 'n', n)
  if n > m:
    fix = f'{function}(2, 4) keeps 2 of every 4.'
    raise ValueError(message(function, 'n', f'at most m={m}', shown(n), fix))


def bad_block(shape: Any) -> TypeError:
  constraint = 'a tuple of two ints, rows and columns'
  return TypeError(
    message('Block', 'shape', constraint, shown(shape), 'For example Block((4, 4)).')
  )


def too_few_dimensions(
  function: str, pattern: str, path: str, shape: tuple[int, ...]
) -> ValueError:
  constraint = f'of two or more dimensions for {pattern}'
  fix = 'Exclude the leaf with where=.'
  return ValueError(message(function, 'scores', constraint, f'shape {shape}', fix, path))


def not_divisible(
  function: str, axis: int, path: str, shape: tuple[int, ...], what: str, length: int
) -> ValueError:
  return ValueError(
    f"{function}: axis {axis} of leaf '{path}' must be divisible by {what}={length}; "
    f'got shape {shape}. Exclude the leaf with where=, choose another size, or pass pad=True.'
  )


def check_caps(
  function: str, min_keep: Any, max_sparsity: Any, sparsity: Any, per_output: Any
) -> None:
  check_int(function, 'min_keep', min_keep)
  if min_keep < 0:
    raise ValueError(message(function, 'min_keep', 'an int of at least 0', shown(min_keep)))
  largest = static_fraction(function, 'max_sparsity', max_sparsity)
  if not isinstance(per_output, bool):
    raise TypeError(message(function, 'per_output', 'a bool', shown(per_output)))
  if per_output and not min_keep and largest == 1.0:
    constraint = 'False where nothing is to be kept of each output'
    fix = 'Pass min_keep= or max_sparsity=, or leave it out.'
    raise ValueError(message(function, 'per_output', constraint, 'True', fix))
  if sparsity is None or isinstance(sparsity, Tracer):
    return
  check_fraction(function, 'sparsity', sparsity)
  if largest < float(np.asarray(sparsity)):
    constraint = f'at least the sparsity {float(np.asarray(sparsity)):g}'
    fix = 'It is the largest sparsity of a leaf; all leaves together reach no more.'
    raise ValueError(message(function, 'max_sparsity', constraint, f'{largest:g}', fix))


def no_outputs(function: str, pattern: Any, path: str) -> ValueError:
  constraint = f'False for {pattern}, whose units are not parts of single outputs'
  return ValueError(message(function, 'per_output', constraint, 'True', 'Leave it out.', path))


def check_threshold(function: str, value: Any, path: str) -> None:
  check_numeric(function, 'thresholds', value, path)
  if not isinstance(value, Tracer) and float(value) != float(value):
    raise ValueError(message(function, 'thresholds', 'a number', 'nan', '', path))


def none_given(function: str, argument: str) -> ValueError:
  return ValueError(message(function, argument, 'at least one', 'none'))


def axis_not_known(function: str, path: str, shape: tuple[int, ...]) -> ValueError:
  constraint = 'an axis where nothing tells which axes of a leaf are its inputs'
  got = f'None for shape {tuple(shape)}'
  fix = 'Pass axis=, or roles=jprune.graph.roles(fn, params, *args), or exclude it with where=.'
  return ValueError(message(function, 'axis', constraint, got, fix, path))


def bad_reduction(function: str, reduce: Any, choices: Sequence[str]) -> Exception:
  near = difflib.get_close_matches(reduce, choices, 1) if isinstance(reduce, str) else []
  fix = f'Did you mean {near[0]!r}?' if near else ''
  constraint = ', '.join(repr(choice) for choice in choices) + ' or a function'
  error = ValueError if isinstance(reduce, str) else TypeError
  return error(message(function, 'reduce', constraint, shown(reduce), fix))


def bad_reduced(function: str, group: str, size: int, found: Any) -> ValueError:
  constraint = f'a function from (members, units) to one number a unit, shape ({size},)'
  fix = f"Reduce axis 0, as lambda x: jnp.nanmean(x, axis=0) does; this was group '{group}'."
  got = found if isinstance(found, str) else kind(found)
  return ValueError(message(function, 'reduce', constraint, got, fix))


def check_target(function: str, argument: str, value: Any) -> None:
  check_fraction(function, argument, value)
  if float(value) == 0.0:
    fix = 'It is the fraction that is kept of the dense model.'
    raise ValueError(message(function, argument, 'in (0, 1]', '0.0', fix))


def target_needs_values(function: str, argument: str, value: float) -> TypeError:
  constraint = 'None where scores are traced'
  fix = 'Call it outside jit, or pass a sparsity.'
  return TypeError(message(function, argument, constraint, f'{value}', fix))


def out_of_reach(function: str, argument: str, value: float, least: float) -> ValueError:
  # rounded up, so that the number shown can be asked for
  least = -(-least * 10_000 // 1) / 10_000
  constraint = f'at least {least:.4f}, what is left when all groups are pruned as far as allowed'
  fix = 'Lower min_keep or round_to, or let more groups take part.'
  return ValueError(message(function, argument, constraint, f'{value!r}', fix))


def rest_and_target(function: str, argument: str) -> TypeError:
  constraint = f"without the key '*' where {argument} says what all other groups lose"
  return TypeError(message(function, 'sparsity', constraint, "a dict with '*'", 'Leave one out.'))


def group_named_twice(function: str, group: str, keys: Sequence[str]) -> ValueError:
  constraint = 'a dict that names each group once'
  got = f"'{group}' by {keys[0]!r} and by {keys[1]!r}"
  return ValueError(message(function, 'sparsity', constraint, got, 'Leave one of them out.'))


def no_group_left(function: str, kept: int, left_out: int) -> ValueError:
  by = [f'`keep` for {kept}'] if kept else []
  by += [f'`where`, which leaves out a kernel that makes the channels, for {left_out}'] * (
    left_out > 0
  )
  constraint = 'a filter that leaves a scored group to prune'
  fix = 'Whole layers are named by `keep`; `where` names the leaves whose scores count.'
  got = f'none, because of {" and ".join(by)}'
  return ValueError(message(function, 'keep' if kept else 'where', constraint, got, fix))


def no_group_sparsities(function: str) -> ValueError:
  constraint = 'a number in [0, 1], or a dict from group or member to number'
  fix = "The names are those of graph.groups; '*' stands for all others."
  return ValueError(message(function, 'sparsity', constraint, 'an empty dict', fix))


def unknown_groups(function: str, unknown: Sequence[Any], names: Sequence[str]) -> ValueError:
  """Keys that mean no group, with the names of groups and members that look like them."""
  first = map(str, unknown[:3])  # as many as are listed; each is compared with all names
  near = [name for each in first for name in difflib.get_close_matches(each, names, 2)]
  fix = f'Did you mean {listed(dict.fromkeys(near))}?' if near else f'There are {listed(names)}.'
  got = f'{listed(unknown)}, which no group or member is called'
  constraint = 'a dict whose keys are names of groups or members'
  return ValueError(message(function, 'sparsity', constraint, got, fix))


def groups_not_scored(function: str, names: Sequence[str], why: str | None = None) -> ValueError:
  """``why``: what other arguments say of these groups, if that is the reason."""
  constraint = 'a dict of groups that may be pruned'
  got = f'{listed(names)}, {why or "of which no member is scored and selected"}'
  fix = 'Select a member with where=, or leave the group out of the dict.'
  return ValueError(message(function, 'sparsity', constraint, got, fix))


def complex_scores(function: str, path: str, score: Any) -> TypeError:
  fix = 'Scores are real: jprune.scores.magnitude and its kin make them of complex params.'
  return TypeError(message(function, 'scores', 'real', f'complex scores, {kind(score)}', fix, path))


def no_members_scored(function: str) -> ValueError:
  constraint = 'scores for at least one selected member of a group'
  fix = 'Members of groups are listed by print(graph); see also where=.'
  return ValueError(message(function, 'scores', constraint, 'none', fix))


def groups_left_dense(
  function: str, names: Sequence[str], sizes: Sequence[int], round_to: int, min_keep: int
) -> str:
  """A warning: what was asked can't be had in these groups."""
  shown = listed([f'{name} ({size} units)' for name, size in zip(names, sizes)])
  return (
    f'{function}: nothing can be pruned of {shown} with round_to={round_to} and '
    f'min_keep={min_keep}; these groups stay dense. Choose smaller numbers, or leave the groups '
    'out with where=.'
  )


def no_masks_held(function: str, state: Any, argument: str = 'state') -> ValueError:
  got = type(state).__name__
  fix = 'Pass the state of an optimizer that has a transformation of jprune in it.'
  return ValueError(message(function, argument, 'a state with masks', got, fix))


def masked_twice(function: str, path: str) -> ValueError:
  fix = 'Let one transformation prune each leaf.'
  return ValueError(message(function, 'state', 'one with one mask a leaf', 'two', fix, path))
