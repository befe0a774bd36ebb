"""A table on disk, one line of JSON for each finished point, from which a run goes on.

The first line says what was measured, the scores' values included: a table of another run is
refused, and so is a line that can't be a point of this one. A last line without its end was being
written when the run was interrupted, and is dropped.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, _hosts, tree
from jprune.sensitivity import _errors

_FORMAT, _VERSION = 'jprune.sensitivity.curves', 1


class Table:
  """The finished points of a run: in memory, and on disk if there is a path.

  A point is known by group and sparsity; ``('', 0.0)`` is that of the dense params.
  """

  def __init__(
    self,
    function: str,
    path: Any,
    header: Callable[[], dict[str, Any]],
    sizes: Mapping[str, Mapping[str, int]],
    sparsities: Sequence[float],
    together: bool = False,
  ) -> None:
    """``together`` says that several processes add the same: the first one reads and writes."""
    self._together = together
    self.points: dict[tuple[str, float], tuple[float, dict[str, int]]] = {}
    self._sizes = {('', 0.0): {}} | {(g, s): sizes[g] for g in sizes for s in sparsities if s}
    self._path = None if path is None else _checks.as_path(function, path, 'table')
    if self._path is not None:
      whole = {'format': _FORMAT, 'version': _VERSION, **header()}
      self._start(function, self._path, json.loads(json.dumps(whole)))

  def add(self, group: str, sparsity: float, metric: float, pruned: dict[str, int]) -> None:
    """Adds a point; once this returns, it is on disk."""
    self.points[group, sparsity] = metric, pruned
    row = {'group': group, 'sparsity': sparsity, 'metric': metric, 'pruned': pruned}
    if self._together and self._path is not None:
      _hosts.by_first(lambda: self._append(row) or '')
    else:
      self._append(row)

  def _start(self, function: str, path: str, header: dict[str, Any]) -> None:
    def held() -> str:
      _checks.check_output(function, path, 'table')
      self._open(function, path, header)
      return json.dumps([[*point, *found] for point, found in self.points.items()])

    if not self._together:
      held()
      return
    for group, sparsity, metric, pruned in json.loads(_hosts.by_first(held)):
      self.points[group, sparsity] = metric, pruned

  def _open(self, function: str, path: str, header: dict[str, Any]) -> None:
    try:
      with open(path, 'rb') as file:
        lines = file.read().split(b'\n')
    except FileNotFoundError:
      lines = [b'']
    unfinished = lines.pop()
    if not lines:
      if not _line(header).startswith(unfinished):
        raise _errors.not_a_table(function, path)
      open(path, 'wb').close()
      self._append(header)
      return
    _check_header(function, path, lines[0], header)
    for number, line in enumerate(lines[1:], 2):
      if fault := self._read(line):
        raise _errors.broken_table(function, path, number, fault)
    if unfinished:
      with open(path, 'r+b') as file:
        file.truncate(sum(len(line) + 1 for line in lines))

  def _read(self, line: bytes) -> str:
    """Takes a point from a line; or says what is wrong with it."""
    try:
      row = json.loads(line)
      point, metric, pruned = (row['group'], row['sparsity']), row['metric'], row['pruned']
      sizes = self._sizes.get(point)
    except (ValueError, KeyError, TypeError, RecursionError):
      return 'it cannot be read'
    if sizes is None:
      return 'no such group or sparsity is measured'
    if point in self.points:
      return 'the same point stands above'
    if not isinstance(metric, float) or not math.isfinite(metric):
      return f'its metric is {metric!r}'
    if not isinstance(pruned, dict) or pruned.keys() != sizes.keys():
      return 'it counts other leaves'
    if not all(type(n) is int and 0 <= n <= sizes[name] for name, n in pruned.items()):
      return 'its counts of pruned weights are impossible'
    self.points[point] = metric, pruned
    return ''

  def _append(self, row: dict[str, Any]) -> None:
    if self._path is not None:
      with open(self._path, 'ab') as file:
        file.write(_line(row))
        file.flush()
        os.fsync(file.fileno())


def _check_header(function: str, path: str, line: bytes, header: dict[str, Any]) -> None:
  try:
    found = json.loads(line)
  except (ValueError, RecursionError):
    found = None
  if not isinstance(found, dict) or found.get('format') != _FORMAT:
    raise _errors.not_a_table(function, path)
  if differing := [name for name in header if found.get(name) != header[name]]:
    raise _errors.table_of_another_run(function, path, differing)


def _line(row: dict[str, Any]) -> bytes:
  return json.dumps(row).encode() + b'\n'


# ---------------------------------------------------------------------------------- what is what


def fingerprint(params: Any) -> str:
  """A hash of paths, shapes, dtypes and values; of arrays on other processes without values."""
  out = hashlib.sha256()
  for path, leaf in zip(*tree.flatten(params)[:2]):
    if not tree.is_array(leaf):
      out.update(f'{path} {_shown(leaf)}\n'.encode())
      continue
    out.update(f'{path} {leaf.dtype} {tuple(leaf.shape)}\n'.encode())
    if getattr(leaf, 'is_fully_addressable', True):
      is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
      held = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
      out.update(np.ascontiguousarray(held).reshape(-1).view(np.uint8).data)
  return out.hexdigest()


def described(function: Callable[..., Any]) -> str:
  """What a function is known by: its module, its name, and which plain values are bound to it."""
  inner = function
  while isinstance(inner, functools.partial):
    inner = inner.func
  return f'{getattr(inner, "__module__", "")}.{name_of(function)}'


def name_of(function: Any) -> str:
  """The name of a function, with the plain values that are bound to it; or that it is none."""
  if isinstance(function, functools.partial):
    bound = [_shown(x) for x in function.args]
    bound += [f'{name}={_shown(x)}' for name, x in sorted(function.keywords.items())]
    return f'{name_of(function.func)}({", ".join(bound)})'
  if not callable(function):
    return 'scores as given'
  return getattr(function, '__qualname__', type(function).__qualname__)


def _shown(value: Any) -> str:
  plain = isinstance(value, (str, int, float, bool, type(None)))
  return repr(value) if plain else type(value).__name__
