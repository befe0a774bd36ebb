"""Graphs of channels made up for tests: what channel selection reads of one, and no more."""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st


@dataclasses.dataclass(frozen=True)
class Position:
  units: np.ndarray


class Member(NamedTuple):
  path: str
  axis: int
  position: Position


@dataclasses.dataclass(frozen=True)
class Group:
  name: str
  size: int
  members: tuple[Member, ...]


@dataclasses.dataclass(frozen=True)
class Graph:
  groups: tuple[Group, ...]
  leaves: dict[str, Any]
  treedef: Any
  readers: tuple[frozenset[str], ...] | None = None

  def masks(self, kept):
    """Masks of all leaves, index by index."""
    out = {path: np.ones(leaf.shape, bool) for path, leaf in self.leaves.items()}
    for group, keep in zip(self.groups, kept):
      for path, axis, position in group.members:
        rows = np.moveaxis(out[path], axis, 0)
        for index, unit in enumerate(position.units):
          if unit >= 0 and not keep[unit]:
            rows[index] = False
    return out

  def params_at(self, kept):
    kept = kept or [[True] * group.size for group in self.groups]
    return int(sum(mask.sum() for mask in self.masks(kept).values()))

  def macs_at(self, kept):
    """A matrix is used seven times, a vector never."""
    kept = kept or [[True] * group.size for group in self.groups]
    return int(sum(7 * mask.sum() for mask in self.masks(kept).values() if mask.ndim > 1))


def graph_of(params, *groups):
  """``groups``: ``(name, size, [(path, axis, units), ...])``; ``units=None``: all, in order."""
  flat, treedef = jax.tree_util.tree_flatten_with_path(params)
  leaves = {
    jax.tree_util.keystr(path, simple=True, separator='/'): jax.ShapeDtypeStruct(
      np.shape(leaf), leaf.dtype
    )
    for path, leaf in flat
  }
  made = []
  for name, size, members in groups:
    position = lambda units, n=size: Position(
      np.asarray(range(n) if units is None else units, np.int32)
    )
    own = tuple(Member(path, axis, position(units)) for path, axis, units in members)
    made.append(Group(name, size, own))
  return Graph(tuple(made), leaves, treedef)


def mlp(hidden=(6, 10), seed=0):
  """Params of three layers, their graph, and scores that are all different."""
  widths = (3, *hidden, 2)
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.random(shape), jnp.float32)
  params = {
    f'Dense_{i}': {'kernel': draw(n, m), 'bias': draw(m)}
    for i, (n, m) in enumerate(itertools.pairwise(widths))
  }
  params['step'] = jnp.asarray(3)
  groups = [
    (
      f'hidden {i}',
      size,
      [
        (f'Dense_{i}/kernel', 1, None),
        (f'Dense_{i}/bias', 0, None),
        (f'Dense_{i + 1}/kernel', 0, None),
      ],
    )
    for i, size in enumerate(hidden)
  ]
  readers = tuple(frozenset([f'Dense_{i + 1}/kernel']) for i in range(len(hidden)))
  return params, dataclasses.replace(graph_of(params, *groups), readers=readers)


def kept_of(found, graph):
  """Number of units that each group keeps, read from the biases."""
  return [int(found[f'Dense_{i}']['bias'].sum()) for i in range(len(graph.groups))]


@st.composite
def graphs(draw):
  """A graph and scores: members that are permuted, repeated, or a part of an axis; shared leaves.

  Scores are small whole numbers, so that sums are exact and ties frequent.
  """
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
  members = [[] for _ in sizes]
  params = {}
  counter = itertools.count()

  def add_leaf(owners):
    path = f'{next(counter)}/{rng.choice(["kernel", "bias"])}'
    shape = []
    for axis, owner in enumerate(owners):
      if owner is None:
        shape.append(int(rng.integers(1, 4)))
        continue
      units = np.tile(np.arange(sizes[owner]), rng.integers(1, 3))
      if rng.random() < 0.5:
        units = rng.permutation(np.append(units, [-1] * rng.integers(0, 3)))
      members[owner].append((path, axis, units))
      shape.append(len(units))
    layer, _, last = path.partition('/')
    params[layer] = {last: rng.integers(-3, 6, shape).astype(np.float32)}

  for owner in range(len(sizes)):
    for _ in range(rng.integers(1, 3)):
      owners = [owner] + [None] * rng.integers(0, 3)
      if len(owners) > 1 and rng.random() < 0.5:
        owners[1] = int(rng.integers(len(sizes)))
      add_leaf([owners[i] for i in rng.permutation(len(owners))])
  add_leaf([None, None])
  groups = [(f'group {i}', size, own) for i, (size, own) in enumerate(zip(sizes, members))]
  return graph_of(params, *groups), params
