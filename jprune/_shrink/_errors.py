"""What is said when something is wrong; every message names function, argument, value and fix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jprune._checks.words import listed, message


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


def no_effect(function: str, path: str, axis: int, why: str) -> ValueError:
  constraint = 'masks of which some units can be left out'
  got = f"masks of whole slices, none of which can: axis {axis} of leaf '{path}' is frozen ({why})"
  fix = (
    'print(jprune.graph.channels(fn, params, *args)) shows which axes can; results may come out '
    'small with small_outputs=; strict=False keeps all.'
  )
  return ValueError(message(function, 'masks', constraint, got, fix))


def words_nothing_shrinks(function: str) -> str:
  return (
    f'{function}: `masks` leave some of every unit, so nothing gets smaller: pruned weights are '
    'zeros in params of the same shapes. jprune.masks.channels(scores, graph, sparsity) prunes '
    'whole units; strict=False says nothing.'
  )


def flattened(function: str, path: str, size: int) -> ValueError:
  constraint = 'a tree that mirrors the params'
  got = f'a vector of {size} entries, as many as the params have together'
  fix = 'Initialise it anew from the small params; optax.flatten keeps no shapes.'
  return ValueError(message(function, 'other', constraint, got, fix, path))


def several_networks(function: str, one: str, two: str, param: str) -> ValueError:
  constraint = 'a tree of one network, its copies and its states'
  got = f"leaves '{one}' and '{two}', which both fit the param '{param}'"
  fix = "Slice what mirrors the params by itself, or name it, as where='^gen/' does."
  return ValueError(message(function, 'other', constraint, got, fix))
