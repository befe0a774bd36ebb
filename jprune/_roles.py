"""What each leaf of a function is, and each of its axes: kernels, vectors, tables, states.

Made by :func:`jprune.graph.roles` from what a function does, or by :mod:`jprune.tree._named_roles`
from names and shapes; read by whatever has to know which weights feed one output.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jprune import _checks
from jprune._text import html
from jprune._text.names import keys
from jprune._text.table import table
from jprune._text.words import printable

INPUTS, OUTPUTS, WINDOW, HEADS = 'inputs', 'outputs', 'window', 'heads'
STACKED = LAYERS, EXPERTS, BATCH = 'layers', 'experts', 'batch'


_HEADER = ('leaf', 'shape', 'role', 'axes', 'why')


class Factor(NamedTuple):
  """A run of indices along an axis of a leaf; an axis is the row-major product of its factors.

  Attributes:
    axis: of the leaf.
    size: number of indices.
    word: what the function does along it: ``'inputs'``, ``'outputs'``, ``'window'``, ``'heads'``,
      ``'layers'``, ``'experts'`` or ``'batch'``.
    contracted: whether a product sums over it, as over inputs, a window, and some heads.

  Examples:
    >>> fn = lambda params, x: x @ params['w'].reshape(2, 4)
    >>> role = jprune.graph.roles(fn, {'w': jnp.ones(8)}, jnp.ones((5, 2)))['w']
    >>> [(factor.size, factor.word) for factor in role.factors]
    [(2, 'inputs'), (4, 'outputs')]
  """

  axis: int
  size: int
  word: str
  contracted: bool = False


@dataclasses.dataclass(frozen=True)
class Role:
  """What a function does with a leaf.

  Attributes:
    kind: ``'kernel'`` (a product multiplies by it), ``'vector'`` (it scales or shifts, whatever its
      number of axes), ``'table'`` (it is looked up), ``'state'`` (new values are returned, or
      gradients don't reach it) or ``'unused'``.
    shape: of the leaf.
    why: how that is known, as a phrase with the line of the user's code where there is one.
    factors: of a kernel whose axes are known, in the order of the leaf's axes; axes of size 1 have
      none.
    order: places in ``factors`` in the order in which the product has them.

  Examples:
    >>> fn = lambda params, x: jnp.einsum('nd,dhk->nhk', x, params['query'])
    >>> roles = jprune.graph.roles(fn, {'query': jnp.ones((8, 2, 4))}, jnp.ones((5, 8)))
    >>> role = roles['query']
    >>> role.kind, role.axes, role.fan_in, role.fan_out
    ('kernel', ('inputs', 'outputs', 'outputs'), 8, 8)
    >>> role.matrices(jnp.ones((8, 2, 4))).shape
    (1, 1, 8, 8)
  """

  kind: str
  shape: tuple[int, ...]
  why: str = ''
  factors: tuple[Factor, ...] = ()
  order: tuple[int, ...] = ()

  @property
  def known(self) -> bool:
    """Whether it is a kernel of which every axis is known."""
    return self.kind == 'kernel' and (bool(self.factors) or math.prod(self.shape) == 1)

  @property
  def axes(self) -> tuple[str, ...]:
    """One word for each axis; several, with ``x`` between them, where an axis is a product."""
    words: list[list[str]] = [[] for _ in self.shape]
    for factor in self.factors:
      if factor.word not in words[factor.axis][-1:]:
        words[factor.axis].append(factor.word)
    return tuple('x'.join(each) for each in words)

  @property
  def stack(self) -> int:
    """How many matrices lie side by side: layers of a scan, experts, what is vmapped over."""
    return math.prod(self.factors[i].size for i in self._places()[0])

  @property
  def window(self) -> tuple[int, ...]:
    """Sizes of the window of a convolution; ``()`` if there is none."""
    return tuple(factor.size for factor in self.factors if factor.word == WINDOW)

  @property
  def fan_in(self) -> int:
    """Number of inputs, without a window."""
    return math.prod(self.factors[i].size for i in self._places()[2])

  @property
  def fan_out(self) -> int:
    """Number of outputs."""
    return math.prod(self.factors[i].size for i in self._places()[3])

  def matrices(self, leaf: jax.Array) -> jax.Array:
    """A leaf, or an array of its shape, as ``(stack, window, inputs, outputs)``."""
    places = self._places()
    sizes = [math.prod(self.factors[i].size for i in each) for each in places]
    parts = leaf.reshape([factor.size for factor in self.factors])
    return parts.transpose([i for each in places for i in each]).reshape(sizes)

  def placed(self, matrices: jax.Array) -> jax.Array:
    """An array of the leaf's shape from ``(stack, window, inputs, outputs)``."""
    order = [i for each in self._places() for i in each]
    parts = matrices.reshape([self.factors[i].size for i in order])
    back = sorted(range(len(order)), key=order.__getitem__)
    return parts.transpose(back).reshape(self.shape)

  def layers_first(self, leaf: jax.Array) -> jax.Array:
    """A leaf as ``(stack, ...)``, the other axes as they are."""
    order, _, rest = self._layers()
    parts = leaf.reshape([factor.size for factor in self.factors])
    return parts.transpose(order).reshape(self.stack, *rest)

  def layers_placed(self, layers: jax.Array) -> jax.Array:
    """An array of the leaf's shape from ``(stack, ...)``."""
    order, sizes, _ = self._layers()
    back = sorted(range(len(order)), key=order.__getitem__)
    return layers.reshape(sizes).transpose(back).reshape(self.shape)

  def _layers(self) -> tuple[list[int], list[int], list[int]]:
    """The factors with those of the stack first, their sizes, and the axes that are left."""
    first = self._places()[0]
    order = [*first, *(i for i in range(len(self.factors)) if i not in first)]
    rest = list(self.shape)
    for i in first:
      rest[self.factors[i].axis] //= self.factors[i].size
    mine = {self.factors[i].axis for i in first}
    kept = [n for axis, n in enumerate(rest) if axis not in mine or n != 1]
    return order, [self.factors[i].size for i in order], kept

  def _places(self) -> tuple[list[int], list[int], list[int], list[int]]:
    """Places of the factors of the stack, the window, the inputs and the outputs."""
    parts: tuple[list[int], ...] = ([], [], [], [])
    for i in self.order:
      factor = self.factors[i]
      if factor.word in STACKED:
        parts[0].append(i)
      elif factor.word == WINDOW:
        parts[1].append(i)
      else:
        parts[2 if factor.contracted else 3].append(i)
    return parts  # type: ignore[return-value]


class Roles(Mapping[str, Role]):
  """The :class:`Role` of each leaf by its path, in tree order.

  ``print`` shows a table, notebooks the same as HTML.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['kernel'] + params['bias'])
    >>> params = {'kernel': jnp.ones((3, 8)), 'bias': jnp.ones(8)}
    >>> roles = jprune.graph.roles(fn, params, jnp.ones(3))
    >>> roles['kernel'].kind, roles['bias'].kind
    ('kernel', 'vector')
  """

  def __init__(self, roles: Mapping[str, Role]) -> None:
    self._roles = dict(roles)

  def __getitem__(self, path: str) -> Role:
    try:
      return self._roles[path]
    except KeyError:
      raise KeyError(_checks.words_no_role(path, list(self._roles))) from None

  def __iter__(self) -> Iterator[str]:
    return iter(self._roles)

  def __len__(self) -> int:
    return len(self._roles)

  def __contains__(self, path: object) -> bool:
    return path in self._roles

  def __hash__(self) -> int:
    return hash(tuple(self._roles.items()))

  @property
  def kernels(self) -> tuple[str, ...]:
    """Paths of the kernels, in tree order."""
    return tuple(path for path, role in self.items() if role.kind == 'kernel')

  def to_dict(self) -> dict[str, dict[str, Any]]:
    """For JSON: kind, shape, axes and reason of each leaf."""
    return {
      path: {
        'kind': role.kind,
        'shape': list(role.shape),
        'axes': list(role.axes),
        'why': role.why,
      }
      for path, role in self.items()
    }

  def __str__(self) -> str:
    rows: list[Sequence[str]] = []
    module = ''
    for path in self:
      *parents, name = keys(printable(path))
      if (parent := ''.join(parents)) != module:
        rows.append([parent] if parent else [])
        module = parent
      rows.append([f'{"  " if parent else ""}{name}', *self._cells(path)[1:]])
    return '\n'.join(table(_HEADER, rows, words=range(len(_HEADER))))

  def __repr__(self) -> str:
    return f'Roles({len(self.kernels)} kernels of {len(self)} leaves)'

  def _repr_html_(self) -> str:
    return html.table(_HEADER, map(self._cells, self), words=range(len(_HEADER)))

  def _cells(self, path: str) -> tuple[str, str, str, str, str]:
    role = self._roles[path]
    shape = ' x '.join(map(str, role.shape)) or 'scalar'
    return path, shape, role.kind, ', '.join(word or '-' for word in role.axes), role.why


def by_axes(
  shape: Sequence[int], words: Sequence[str], contracted: Sequence[bool], why: str
) -> Role:
  """A kernel each of whose axes has one word."""
  axes = [i for i, size in enumerate(shape) if size != 1]
  factors = tuple(Factor(i, int(shape[i]), words[i], contracted[i]) for i in axes)
  return Role('kernel', tuple(shape), why, factors, tuple(range(len(factors))))


def check(function: str, shapes: Mapping[str, tuple[int, ...]], roles: Any) -> None:
  """Refuses what is no :class:`Roles`, or those of other leaves than these."""
  if not isinstance(roles, Roles):
    raise _checks.no_roles(function, roles)
  for path, shape in shapes.items():
    if path not in roles:
      raise _checks.other_roles(function, path, None, list(roles))
    if roles[path].shape != shape:
      raise _checks.other_roles(function, path, (shape, roles[path].shape), list(roles))
