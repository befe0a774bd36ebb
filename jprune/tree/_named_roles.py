"""Roles of kernels by their names, and by what lies beside them, where no function is at hand.

Libraries agree on few layouts:

- Flax (linen, NNX) ``kernel``, Haiku ``w``: ``(*window, inputs, *outputs)``, bias ``outputs``.
- Attention of Flax, MaxText: ``query/kernel``, ``key``, ``value`` ``(inputs, heads, outputs)``,
  bias ``(heads, outputs)``; ``out/kernel`` ``(heads, inputs, outputs)``, bias ``(outputs,)``.
- Equinox and PyTorch ``weight``: ``(outputs, inputs, *window)``, bias ``(outputs,)`` or, of
  convolutions of Equinox, ``(outputs, 1, 1)``.

Layers that a scan runs over are stacked along a first axis, biases and norms with them: a bias
of ``(layers, outputs)`` beside a kernel of ``(layers, inputs, outputs)``, a norm's scale of two
axes. A matrix by any other name has inputs, then outputs, as in ``x @ w``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from jprune import _roles
from jprune._roles import HEADS, INPUTS, LAYERS, OUTPUTS, WINDOW, Role, by_axes
from jprune.tree._names import KERNELS, Named, Shape, known, parts_of

_INTO_HEADS = re.compile(r'^(q|k|v|query|key|value|(q|k|v|query|key|value)_proj|to_[qkv])$')
_OUT_OF_HEADS = re.compile(r'^(o|out|o_proj|out_proj|attn_out|attention_output|to_out)$')
_BIASES = ('bias', 'b')
_OUTPUTS_FIRST = 'weight'
# of norms, which have one axis for each layer
_SCALES = ('scale', 'offset', 'gamma', 'beta')


def roles_or_names(
  function: str, shapes: Mapping[str, Shape], roles: Mapping[str, Role] | None
) -> Mapping[str, Role | None]:
  """Roles that are given, checked; else those that names tell.

  Args:
    function: who asks, for messages.
    shapes: of all leaves by path.
    roles: of these leaves, or ``None``.
  """
  if roles is None:
    return roles_by_name(shapes)
  _roles.check(function, shapes, roles)
  return roles


def roles_by_name(leaves: Mapping[str, Shape]) -> dict[str, Role | None]:
  """The role of each leaf as a kernel; ``None`` where neither its name nor its shape tells.

  Whether a leaf is a kernel at all is not asked here.

  Args:
    leaves: shapes by path.
  """
  depths = stack_depths(leaves)
  return {path: _by_name(path, shape, depths[path], leaves) for path, shape in leaves.items()}


def _by_name(path: str, shape: Shape, depth: int, leaves: Mapping[str, Shape]) -> Role | None:
  words = _words(path, shape[depth:], _bias(path, depth, leaves), leaves)
  if words is None:
    return None
  words = (LAYERS,) * depth + words
  out_of_heads = words.count(HEADS) == 1 and words.index(HEADS) < words.index(INPUTS)
  contracted = [w in (INPUTS, WINDOW) or (w == HEADS and out_of_heads) for w in words]
  return by_axes(shape, words, contracted, 'by its name')


def _words(
  path: str, shape: Shape, bias: Shape | None, leaves: Mapping[str, Shape]
) -> tuple[str, ...] | None:
  """A word for each axis of one layer; a bias has those of the outputs."""
  rank, leaf = len(shape), Named.of(path)
  if rank < 2:
    return None
  if rank == 2:
    return (OUTPUTS, INPUTS) if leaf.name == _OUTPUTS_FIRST else (INPUTS, OUTPUTS)
  into = _INTO_HEADS.match(leaf.module) or _INTO_HEADS.match(leaf.name)
  if rank == 3 and into and bias in (None, shape[1:]):
    return (INPUTS, HEADS, OUTPUTS)
  out = _OUT_OF_HEADS.match(leaf.module) or _OUT_OF_HEADS.match(leaf.name)
  if rank == 3 and out and _in_attention(path, leaves):
    return (HEADS, INPUTS, OUTPUTS)
  if leaf.name == _OUTPUTS_FIRST:
    return (OUTPUTS, INPUTS, *(WINDOW,) * (rank - 2))
  outputs = len(bias) if bias is not None and shape[-len(bias) :] == bias else 0
  if outputs > 1 and outputs < rank:
    return (INPUTS,) * (rank - outputs) + (OUTPUTS,) * outputs
  if outputs == 1 or (leaf.name in KERNELS and rank in (4, 5)):
    return (*(WINDOW,) * (rank - 2), INPUTS, OUTPUTS)
  return None


def _in_attention(path: str, leaves: Mapping[str, Shape]) -> bool:
  """Whether queries, keys or values lie beside a leaf or its module."""
  parts = parts_of(path)
  around = {len(parts) - 1, len(parts) - 2}
  for other in leaves:
    theirs = parts_of(other)
    if len(theirs) == len(parts) and any(
      i >= 0 and theirs[:i] == parts[:i] and _INTO_HEADS.match(theirs[i]) for i in around
    ):
      return True
  return False


def _bias(path: str, depth: int, leaves: Mapping[str, Shape]) -> Shape | None:
  """The shape of the bias beside a kernel, as one layer has it."""
  if Named.of(path).name not in KERNELS:
    return None
  found = _beside(path, leaves, _BIASES)
  return None if found is None else found[depth:]


def _beside(path: str, leaves: Mapping[str, Shape], names: Sequence[str]) -> Shape | None:
  """The shape of a leaf of the same module that has one of the names."""
  stem = path[: max(path.rfind('/'), path.rfind('.')) + 1]
  return next((leaves[stem + each] for each in names if stem + each in leaves), None)


# ------------------------------------------------------------------------------------- stacks


def stack_depths(leaves: Mapping[str, Shape]) -> dict[str, int]:
  """How many first axes of each leaf number layers."""
  depths = dict.fromkeys(leaves, 0)
  roots: dict[str, list[str]] = {}
  for path in leaves:
    words = parts_of(path)
    for end in range(len(words)):
      roots.setdefault('/'.join(words[:end]), []).append(path)
  settled: set[str] = set()
  for members in roots.values():  # outer modules come before what is in them
    while not settled.intersection(members) and _is_stack(members, leaves, depths):
      for path in members:
        depths[path] += 1
    settled.update(path for path in members if depths[path])
  return depths


def _is_stack(members: Sequence[str], leaves: Mapping[str, Shape], depths: dict[str, int]) -> bool:
  """Whether all leaves of a module have one first size, and one of them shows that it's layers."""
  rest = {path: leaves[path][depths[path] :] for path in members}
  sizes = {shape[:1] for shape in rest.values()}
  if len(sizes) != 1 or not min(map(len, rest.values())) or sizes == {(1,)}:
    return False
  return any(_shows_stack(path, rest) for path in members)


def _shows_stack(path: str, leaves: Mapping[str, Shape]) -> bool:
  """Whether a bias or a norm has an axis more than one layer of it would have."""
  shape, leaf = leaves[path], Named.of(path)
  of_norm = leaf.name in _SCALES or known(leaf.name, leaf.module) == "a norm's vector"
  if len(shape) < 2 or not (of_norm or leaf.name in _BIASES):
    return False
  kernel = _beside(path, leaves, KERNELS)
  if kernel is None:
    return of_norm and len(shape) == 2 and 1 not in shape
  if len(kernel) <= len(shape) or kernel[0] != shape[0]:
    return False
  if _beside(path, leaves, (_OUTPUTS_FIRST,)):
    return kernel[1] == shape[1] != 1
  outputs = len(shape) - 1
  if kernel[-outputs:] != shape[1:]:
    return False
  # else one layer with several axes of outputs, as of heads
  return kernel[-outputs - 1 :] != shape or (len(kernel) > 2 and not _INTO_HEADS.match(leaf.module))
