"""What each leaf of a function is: kernel, vector, table, state or unused, and each of its axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from jax.extend import core

from jprune import tree
from jprune._entry import public
from jprune._roles import (
  BATCH,
  EXPERTS,
  HEADS,
  INPUTS,
  LAYERS,
  OUTPUTS,
  WINDOW,
  Factor,
  Role,
  Roles,
)
from jprune.graph._analysis.traced import Traced
from jprune.graph._axes.atoms import Atom, resolve
from jprune.graph._axes.pieces import Piece
from jprune.graph._roles.leaf_uses import leaf_uses
from jprune.graph._roles.notes import Notes, Used
from jprune.typing import Params


@public
def roles(fn: Callable[..., Any], params: Params, *args: Any) -> Roles:
  """What a function does with each leaf, and along each axis of those that it multiplies by.

  - *kernel*: a matrix product or a convolution multiplies activations by it, also after it was
    masked, normalised, quantised, cast or moved. Its axes are ``inputs`` (summed over),
    ``outputs``, ``window`` (places of a convolution), ``heads`` (inputs or outputs along which the
    function multiplies activations by each other, side by side), ``layers`` (a scan runs over
    them, or they are indexed one by one), ``experts`` (what is computed says which), ``batch``
    (products side by side, as under ``vmap``).
  - *vector*: it scales or shifts, whatever its number of axes: biases, norms, layer scales, class
    tokens, positions that are added.
  - *table*: it is looked up by index and no product multiplies by it: embeddings.
  - *state*: the function returns a new value of it, or lets no gradient through to it.
  - *unused*: no result depends on it.

  A leaf that does several things is the first of these in the order kernel, state, table, vector.

  Args:
    fn: ``fn(params, *args)``, as for :func:`channels`.
    params: tree of arrays or shape structs.
    *args: trees of arrays or shape structs. Only shapes matter.

  Returns:
    A :class:`~jprune.graph.Roles`: ``roles['path']`` is a :class:`~jprune.graph.Role`. Pass it on
    as ``jprune.prune(params, 0.9, roles=roles)``.

  Raises:
    ValueError: if there is no leaf.
    TypeError: if ``fn`` is no function or can't be traced with these arguments.

  Examples:
    >>> def fn(params, tokens):
    ...   x = params['embed'][tokens] + params['cls']
    ...   return jax.nn.relu(x @ params['up']) @ params['down']
    >>> params = {'embed': jnp.ones((9, 4)), 'cls': jnp.ones((1, 4))}
    >>> params |= {'up': jnp.ones((4, 8)), 'down': jnp.ones((8, 2))}
    >>> found = roles(fn, params, jnp.arange(3))
    >>> [(path, role.kind) for path, role in found.items()]
    [('cls', 'vector'), ('down', 'kernel'), ('embed', 'table'), ('up', 'kernel')]
    >>> found['up'].axes
    ('inputs', 'outputs')
  """
  traced = Traced('roles', fn, params, args, exact=False)
  uses = leaf_uses(traced.frame, [leaf.shape for leaf in traced.leaves])
  places = range(len(traced.paths))
  found = [_KernelAxes(traced, uses, leaf) for leaf in places]
  # Along experts a router has all of its outputs; along heads, queries have others beside.
  routed = {a for each in found if len(each.outputs) == 1 for a in each.outputs}
  heads = uses.heads - {a for each in found for a in each.batch & routed}
  stacked = {a for each in found for a in each.batch - heads}
  kernels = [each.role(heads, routed, stacked) for each in found]
  new = _new_values(traced, {i for i in places if found[i].by_data})
  kept = tree.state_by_name(params)
  state = {i for i in places if (i in new or kept[i]) and not found[i].by_data}
  return Roles(
    {
      path: _state_role(traced.leaves[i].shape, kept[i])
      if i in state
      else kernels[i] or _other_role(traced, uses, i)
      for i, path in enumerate(traced.paths)
    }
  )


class _KernelAxes:
  """What the first product that multiplies by a leaf does along each of its axes."""

  def __init__(self, traced: Traced, uses: Notes, leaf: int) -> None:
    self._shape = traced.leaves[leaf].shape
    self._dims = traced.dims[leaf]
    found = uses.used[leaf]
    strong = [use for use in found if use.by_data] or [use for use in found if use.inputs]
    self._use: Used | None = strong[0] if strong else None
    self._also = bool([end for end in uses.ended[leaf] if end.looked_up])

  @property
  def outputs(self) -> set[Atom]:
    """Atoms along which the leaf has outputs, as a router has experts."""
    return set() if self._use is None else self._atoms(self._use.outputs)

  @property
  def by_data(self) -> bool:
    """Whether activations are multiplied by it."""
    return self._use is not None and self._use.by_data

  @property
  def batch(self) -> set[Atom]:
    """Atoms along which products are made side by side."""
    return set() if self._use is None else self._atoms(self._use.batch)

  def role(self, heads: set[Atom], routed: set[Atom], stacked: set[Atom]) -> Role | None:
    """The role of a kernel; ``None`` if no product multiplies by the leaf."""
    use = self._use
    if use is None:
      return None
    factors: dict[tuple[int, int], tuple[Piece, str, bool]] = {}
    order: list[tuple[int, int]] = []
    for name, contracted in _SIDES:
      for piece in getattr(use, name):
        word = self._word(name, piece, heads, routed, stacked)
        key = piece.axis, piece.step
        if key not in factors:
          factors[key] = piece, word, contracted
          order.append(key)
    why = f'in a product{f" ({use.line})" if use.line else ""}'
    why += ', also looked up' if self._also else ''
    return self._of_factors(factors, order, why)

  def _word(
    self, name: str, piece: Piece, heads: set[Atom], routed: set[Atom], stacked: set[Atom]
  ) -> str:
    """What is done along a piece, by what the function does along its atoms elsewhere."""
    mine, side = self._atoms([piece]), ('batch', 'inputs', 'outputs')
    if name in side and mine and mine <= heads:
      return HEADS
    # one of several outputs or inputs along which there are matrices side by side, or a router
    several = name in ('inputs', 'outputs') and self._atoms(getattr(self._use, name)) > mine
    if name == 'batch' or (mine and several and mine <= stacked | routed):
      return EXPERTS if mine and mine <= routed else BATCH
    return _WORDS[name]

  def _of_factors(self, factors: dict[Any, Any], order: list[Any], why: str) -> Role:
    """The factors in the order of the axes, each as long as the axis has it."""
    placed: list[Factor] = []
    number: dict[Any, int] = {}
    for axis, size in enumerate(self._shape):
      mine = sorted((key for key in factors if key[0] == axis), key=lambda key: -key[1])
      words = {factors[key][1:] for key in mine}
      exact = _sizes([factors[key][0] for key in mine], size)
      if not mine or size == 1:
        if size != 1:  # it is summed over in a form that is not followed
          return Role('kernel', self._shape, why)
        continue
      if exact is None:
        if len(words) > 1:
          return Role('kernel', self._shape, why)
        number[mine[0]] = len(placed)
        placed.append(Factor(axis, size, *next(iter(words))))
        continue
      for key, length in zip(mine, exact):
        number[key] = len(placed)
        placed.append(Factor(axis, length, *factors[key][1:]))
    places = tuple(number[key] for key in order if key in number)
    return Role('kernel', self._shape, why, tuple(placed), places)

  def _atoms(self, pieces: Sequence[Piece]) -> set[Atom]:
    found: set[Atom] = set()
    for piece in pieces:
      width = 1
      for atom in reversed(resolve(self._dims[piece.axis])):
        inside = piece.step <= width and width * atom.size <= piece.step * piece.size
        found |= {atom} if inside else set()
        width *= atom.size
    return found


_SIDES = (
  ('layers', False),
  ('experts', False),
  ('batch', False),
  ('inputs', True),
  ('window', True),
  ('outputs', False),
)
_WORDS = {
  'layers': LAYERS,
  'experts': EXPERTS,
  'batch': BATCH,
  'inputs': INPUTS,
  'window': WINDOW,
  'outputs': OUTPUTS,
}


def _sizes(pieces: Sequence[Piece], size: int) -> list[int] | None:
  """How long each piece of an axis is, the largest step first; ``None`` if they leave gaps.

  The first may be a part of what there is, as one of several slices is, and a piece that was
  indexed (of size 0) is as long as the others leave it.
  """
  if not pieces or pieces[-1].step != 1:
    return None
  out, above = [], size
  for i, piece in enumerate(pieces):
    length, rest = divmod(above, piece.step)
    if rest or (i and piece.size not in (0, length)):
      return None
    out.append(length)
    above = piece.step
  return out


def _new_values(traced: Traced, kernels: set[int]) -> set[int]:
  """Leaves whose new values are returned; none where a training step returns those of kernels."""
  ins, outs = traced.frame.jaxpr.invars, traced.frame.jaxpr.outvars
  found = {
    place
    for place, var in zip(traced.states, outs)
    if place is not None and var is not ins[place] and not isinstance(var, core.Literal)
  }
  return set() if found & kernels else found


def _state_role(shape: tuple[int, ...], kept: str | None) -> Role:
  return Role('state', shape, kept or 'fn returns a new value of it')


def _other_role(traced: Traced, uses: Notes, leaf: int) -> Role:
  """The role of a leaf that no product multiplies by."""
  shape, ended = traced.leaves[leaf].shape, uses.ended[leaf]
  if ended and all(end.stopped for end in ended):
    return Role('state', shape, 'gradients do not reach it')
  looked_up = [end for end in ended if end.looked_up]
  for kind, ends, verb in (('table', looked_up, 'looked up, then used'), ('vector', ended, 'used')):
    if ends:
      first = ends[0]
      line = f' ({first.line})' if first.line else ''
      layers = frozenset().union(*(end.layers for end in ends))
      factors = tuple(Factor(axis, shape[axis], LAYERS) for axis in sorted(layers))
      return Role(kind, shape, f'{verb} by {first.name}{line}', factors, (*range(len(factors)),))
  made = next((eqn for eqn in traced.frame.jaxpr.eqns if _reads(eqn, traced, leaf)), None)
  if made is not None:
    return Role('vector', shape, f'used by {made.primitive.name}')
  returned = any(var is traced.frame.jaxpr.invars[leaf] for var in traced.frame.jaxpr.outvars)
  used = uses.used[leaf]
  if used:
    return Role('vector', shape, 'multiplied by another param')
  if math.prod(shape) == 0:
    return Role('unused', shape, 'it has no entries')
  return Role('unused', shape, f'fn {"only returns" if returned else "does not use"} it')


def _reads(eqn: Any, traced: Traced, leaf: int) -> bool:
  return any(var is traced.frame.jaxpr.invars[leaf] for var in eqn.invars)
