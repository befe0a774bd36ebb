"""What is said when something is wrong; every message names function, argument, value and fix."""

from __future__ import annotations

from typing import Any

from jax.core import Tracer

from jprune._checks.words import kind, message, shown


def no_mapping(function: str, argument: str, value: Any) -> TypeError:
  fix = f"For example {function}({{'Dense_0/kernel': 0.9}})."
  constraint = 'a non-empty dict from leaf path to sparsity'
  return TypeError(message(function, argument, constraint, shown(value), fix))


def sparsity_given(function: str, value: Any) -> ValueError:
  fix = 'The dict names the sparsity of every leaf.'
  return ValueError(message(function, 'sparsity', 'None', shown(value), fix))


def no_scores_at_hand(function: str, path: str, leaf: Any) -> TypeError:
  got = 'traced scores' if isinstance(leaf, Tracer) else 'a shape struct'
  fix = 'Use jprune.prune or jprune.masks.top_k_global there, which need no numbers.'
  return TypeError(message(function, 'scores', 'arrays with values at hand', got, fix, path))


def scores_needed(function: str, path: str, leaf: Any) -> TypeError:
  fix = 'Call it outside of jit, and pass on the sparsities that it returns.'
  constraint = 'arrays with values at hand'
  return TypeError(message(function, 'scores', constraint, f'{kind(leaf)}, traced', fix, path))
