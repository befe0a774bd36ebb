"""Leaves in the form in which a function multiplies by them.

Selection works on leaves as they lie. Where roles tell that a leaf holds a matrix for each layer,
or which of its axes are inputs, it is taken apart before: into layers, which then are leaves like
any others, and into ``(window, inputs, outputs)`` where the pattern asks what is an input. So a
matrix gets one mask, however it is stacked, reshaped or transposed.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, _roles, tree
from jprune._roles import HEADS, INPUTS, OUTPUTS, Role
from jprune.masks import _errors
from jprune.masks._auto import automatic, following, unsharded
from jprune.masks._leaves import scored, sparsities_of
from jprune.masks._pack import PackedMask, unpack_leaf
from jprune.masks._patterns import Block, Channel, NOfM, Unstructured
from jprune.tree._named_roles import roles_or_names


@dataclasses.dataclass(frozen=True)
class Form:
  """How one leaf is taken apart.

  Attributes:
    role: of the leaf.
    stack: how many parts there are; 0 if the leaf stays whole.
    matrices: whether a part is ``(window, inputs, outputs)``, else it has the axes of the leaf that
      don't number layers.
  """

  role: Role | None = None
  stack: int = 0
  matrices: bool = False

  def parts(self, x: Any) -> Any:
    """The leaf, or a tuple of its parts."""
    if not self.stack:
      return x
    if x is None:
      return (None,) * self.stack
    found = self._taken(unsharded(jnp.asarray(x)))
    return tuple(found[i] for i in range(self.stack))

  def whole(self, parts: Sequence[jax.Array]) -> jax.Array:
    """The leaf again."""
    one = jnp.stack(list(parts))
    if self.matrices:
      return self._known.placed(one)
    return self._known.layers_placed(one)

  def _taken(self, x: jax.Array) -> jax.Array:
    return self._known.matrices(x) if self.matrices else self._known.layers_first(x)

  @property
  def _known(self) -> Role:
    return cast(Role, self.role)  # there is one wherever there are parts


class Forms:
  """How the leaves of a tree are taken apart for a pattern; and that pattern, for the parts.

  Args:
    function: who asks, for messages.
    tree_of: tree of arrays, ``None`` included: those that are selected.
    pattern: any pattern.
    roles: given, or ``None`` for those that names tell.
    named: whether names tell of layers where no roles are given.
    shapes: of all leaves by path, also those that are not selected; names are read beside them.
    outputs_last: whether leaves are asked for whose last axis numbers outputs, and no other.
  """

  def __init__(
    self,
    function: str,
    tree_of: Any,
    pattern: Any,
    roles: Mapping[str, Role] | None,
    named: bool = True,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    outputs_last: bool = False,
  ) -> None:
    paths, leaves, self._treedef = tree.flatten(tree_of, is_leaf=lambda x: x is None)
    self.leaves = leaves
    self._function = function
    self._given, self._outputs_last = roles is not None, outputs_last
    if shapes is None:
      shapes = {path: x.shape for path, x in zip(paths, leaves) if x is not None}
    found = roles_or_names(function, shapes, roles)
    unknown = lambda path: Role('vector', tuple(shapes[path]), 'its name says nothing')
    self.roles = _roles.Roles({path: found[path] or unknown(path) for path in shapes})
    by_axis = _asks_for_axes(pattern)
    self.forms = []
    for path, x in zip(paths, leaves):
      role = None if x is None or not tree.size(x) else found[path]
      if role is None or not role.known:
        if x is not None and by_axis and tree.size(x):
          if len(x.shape) < 2:
            _checks.check_axis(function, -2, path, x.shape)
          raise _errors.axis_not_known(function, path, x.shape)
        self.forms.append(Form())
        continue
      if by_axis and isinstance(pattern, NOfM):
        _check_divides(function, path, role, pattern)
      self.forms.append(self._form(role, pattern, by_axis, named))
    self.pattern = _on_matrices(pattern) if by_axis else pattern

  def _form(self, role: Role, pattern: Any, by_axis: bool, named: bool) -> Form:
    as_given = self._given and isinstance(pattern, Block)
    outputs = self._outputs_last and isinstance(pattern, (Unstructured, Block))
    matrices = by_axis or as_given or outputs
    plain = role.stack == 1 and role.axes[-2:] == (INPUTS, OUTPUTS)
    if matrices and plain and role.fan_out == role.shape[-1]:
      return Form()  # it lies as matrices do
    apart = matrices or isinstance(pattern, (Unstructured, Block))
    stack = role.stack if self._given or named or matrices else 1
    if not apart or not (matrices or stack > 1):
      return Form()
    return Form(role, stack, matrices)

  def automatic(self) -> contextlib.AbstractContextManager[None]:
    """Where parts are worked on, on a mesh whose axes aren't in their types."""
    split = [x for form, x in zip(self.forms, self.leaves) if form.stack]
    return automatic(split)

  @property
  def plain(self) -> bool:
    """Whether all leaves stay as they are."""
    return not any(form.stack for form in self.forms)

  def split(self, tree_of: Any) -> Any:
    """A tree of arrays along the leaves (scores, masks), each leaf taken apart."""
    is_leaf = lambda x: x is None or isinstance(x, PackedMask)
    leaves = tree.flatten(tree_of, is_leaf=is_leaf)[1]
    unpacked = (unpack_leaf(x) if isinstance(x, PackedMask) else x for x in leaves)
    return self._treedef.unflatten([form.parts(x) for form, x in zip(self.forms, unpacked)])

  def shares(self, values: Sequence[Any]) -> Any:
    """Numbers for the leaves as numbers for their parts; an array holds one for each layer."""
    out = []
    for form, value in zip(self.forms, values, strict=True):
      each = np.ndim(value) == 1
      if each and len(value) != form.stack:
        raise _errors.not_for_each_layer(self._function, len(value), form.stack)
      if form.stack:
        out.append(tuple(value[i] if each else value for i in range(form.stack)))
      else:
        out.append(value)
    return self._treedef.unflatten(out)

  def join(self, masks: Any) -> Any:
    """Masks of the leaves from those of their parts."""
    parts = self._treedef.flatten_up_to(masks)
    out = []
    for form, leaf, part in zip(self.forms, self.leaves, parts):
      if not form.stack or part is None:
        out.append(part)
      elif any(x is None for x in part):  # it is not among those with a sparsity
        out.append(None)
      else:
        whole: Callable[..., Any] = lambda xs, parts, form=form: [form.whole(parts)]
        out.append(following(whole, [jnp.asarray(leaf)], list(part))[0])
    return self._treedef.unflatten(out)


def _asks_for_axes(pattern: Any) -> bool:
  return isinstance(pattern, (NOfM, Channel)) and pattern.axis is None


def _check_divides(function: str, path: str, role: Role, pattern: NOfM) -> None:
  """Refuses inputs that aren't a multiple of ``m``, in the words of the leaf as it lies."""
  if not pattern.pad and role.fan_in % pattern.m:
    summed = (f.axis for f in role.factors if f.contracted and f.word in (INPUTS, HEADS))
    axis = max(summed, default=len(role.shape) - 2)
    axis -= len(role.shape)
    raise _errors.not_divisible(function, axis, path, role.shape, 'm', pattern.m)


def _on_matrices(pattern: Any) -> Any:
  """The pattern on ``(window, inputs, outputs)``."""
  return dataclasses.replace(pattern, axis=-2 if isinstance(pattern, NOfM) else -1)


def rows(
  function: str,
  scores: Any,
  roles: Mapping[str, Role] | None,
  shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Forms:
  """Leaves as matrices each of whose columns holds what feeds one output."""
  return Forms(function, scores, Channel(), roles, shapes=shapes)


def in_form(
  function: str,
  scores: Any,
  sparsities: Any,
  pattern: Any,
  roles: Mapping[str, Role] | None,
  select: Callable[[Any, Any, Any], Any],
) -> Any:
  """``select(scores, sparsities, pattern)`` on leaves that are taken apart where need be."""
  if roles is None and not _asks_for_axes(pattern):
    return select(scores, sparsities, pattern)
  scored(function, scores, Unstructured())
  forms = Forms(function, scores, pattern, roles, named=False)
  if forms.plain:
    return select(scores, sparsities, forms.pattern)
  if sparsities is not None:
    sparsities = forms.shares(sparsities_of(function, scores, sparsities))
  with forms.automatic():
    return forms.join(select(forms.split(scores), sparsities, forms.pattern))
