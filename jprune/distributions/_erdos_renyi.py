"""Small layers denser than large ones: Erdős-Rényi, and its form for kernels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from jprune import _checks, tree
from jprune._entry import public
from jprune._roles import Role, Roles
from jprune.distributions._common import competing
from jprune.distributions._needs import says
from jprune.tree._named_roles import roles_or_names
from jprune.typing import Distribution, Params, Scores, Sparsities


@says(needs_scores=False, needs_sparsity=True)
@public
def erk(
  params: Params = None,
  scores: Scores = None,
  sparsity: float | None = None,
  *,
  power: float = 1,
  roles: Roles | None = None,
) -> Sparsities | Distribution:
  r"""Erdős-Rényi-Kernel: density in proportion to the sum over the product of a kernel's dims.

  .. math:: 1 - s_l = \min\bigl(1,\ \epsilon\, (\textstyle\sum_d n_d / \prod_d n_d)^{power}\bigr)

  The dims are fan-in, fan-out and those of the window: one matrix gets one sparsity, however its
  inputs and outputs are divided into axes, and the layers of a stack get what each would get by
  itself. Where neither roles nor names tell (three axes of an unknown name), they are those of the
  shape.

  One factor :math:`\epsilon` for all leaves meets the overall sparsity. Leaves whose density
  would exceed 1 stay dense (sparsity 0.0), and the factor is solved again for the others.

  As in the authors' code, the overall number of zeros is ``sparsity * size`` of every leaf,
  rounded down to whole weights, in sum. That reproduces the published tables digit by digit; the
  overall sparsity falls short of the one requested by less than one weight for each leaf.

  Args:
    params: tree of arrays or shape structs. Without any argument but ``power``, the distribution
      with that power is returned, to be passed on: ``distribution=erk(power=2)``.
    scores: tree of that structure and those shapes; ``None`` where a leaf stays dense. The
      sparsity is spread over the other leaves. A scalar counts as one dim of size 1.
    sparsity: fraction of zeros over all these leaves together, in [0, 1].
    power: 0 gives all leaves one density; larger numbers, larger differences between leaves.
    roles: what a function does with each leaf, from :func:`jprune.graph.roles`; by names where it
      isn't given. :func:`jprune.prune` passes on what it is given.

  Returns:
    A Python float for each leaf, ``None`` where ``scores`` is ``None``.

  Raises:
    ValueError: if no leaf is scored, the trees differ, ``sparsity`` is outside [0, 1], or
      ``power`` is negative or not finite.
    TypeError: if ``sparsity`` or ``power`` isn't a number, or is traced.

  Examples:
    >>> params = {'a': jnp.ones((2, 4)), 'b': jnp.ones((3, 6)), 'c': jnp.ones((2, 4, 6))}
    >>> jax.tree.map(lambda s: round(s, 3), erk(params, params, 0.5))
    {'a': 0.0, 'b': 0.31, 'c': 0.655}
    >>> jax.tree.map(lambda s: round(s, 3), erk(power=2)(params, params, 0.5))
    {'a': 0.0, 'b': 0.033, 'c': 0.758}

  References:
    Evci et al., Rigging the lottery: making all tickets winners, ICML 2020, arXiv:1911.11134
  """
  counted = lambda shape, role: (role.fan_in, role.fan_out, *role.window) if role else shape
  return _distribute('erk', erk, counted, params, scores, sparsity, power, roles)


@says(needs_scores=False, needs_sparsity=True)
@public
def er(
  params: Params = None,
  scores: Scores = None,
  sparsity: float | None = None,
  *,
  power: float = 1,
  roles: Roles | None = None,
) -> Sparsities | Distribution:
  r"""Erdős-Rényi: density in proportion to (fan-in + fan-out) / (fan-in · fan-out).

  .. math:: 1 - s_l = \min\bigl(1,\ \epsilon\,
     (\frac{n_{in} + n_{out}}{n_{in} n_{out}})^{power}\bigr)

  Fan-in and fan-out are numbers of inputs and outputs; the window of a convolution is left out of
  account. Where neither roles nor names tell them, they are the last two dims. All else is as in
  :func:`erk`.

  Args:
    params: tree of arrays or shape structs; or nothing at all, as in :func:`erk`.
    scores: tree of that structure and those shapes; ``None`` where a leaf stays dense.
    sparsity: fraction of zeros over all these leaves together, in [0, 1].
    power: as in :func:`erk`.
    roles: as in :func:`erk`.

  Returns:
    A Python float for each leaf, ``None`` where ``scores`` is ``None``.

  Raises:
    ValueError: if no leaf is scored, the trees differ, ``sparsity`` is outside [0, 1], or
      ``power`` is negative or not finite.
    TypeError: if ``sparsity`` or ``power`` isn't a number, or is traced.

  Examples:
    >>> params = {'a': jnp.ones((2, 4)), 'b': jnp.ones((3, 6)), 'c': jnp.ones((2, 4, 6))}
    >>> jax.tree.map(lambda s: round(s, 2), er(params, params, 0.5))
    {'a': 0.21, 'b': 0.47, 'c': 0.56}

  References:
    Mocanu et al., Scalable training of artificial neural networks with adaptive sparse
    connectivity inspired by network science, Nature Communications 2018, arXiv:1707.04780
  """
  counted = lambda shape, role: (role.fan_in, role.fan_out) if role else shape[-2:]
  return _distribute('er', er, counted, params, scores, sparsity, power, roles)


def _distribute(
  function: str,
  distribution: Callable[..., Any],
  counted: Callable[[tuple[int, ...], Role | None], tuple[int, ...]],
  params: Params,
  scores: Scores,
  sparsity: float | None,
  power: float,
  roles: Roles | None,
) -> Any:
  """Both distributions; ``counted`` picks the dims that count."""
  exponent = _checks.non_negative_number(function, 'power', power)
  if params is None and scores is None and sparsity is None:
    known = {} if roles is None else {'roles': roles}
    return functools.partial(distribution, power=exponent, **known)
  overall = _checks.static_fraction(function, 'sparsity', sparsity)
  found, treedef = competing(function, params, scores)
  sizes = [tree.size(score) if score is not None else 0 for score in found]
  dims, layers = _dims(function, params, counted, roles)
  shares = {i: exponent * _log_share(dims[i]) for i, size in enumerate(sizes) if size}
  keep = sum(n - k * _zeros(n // k, overall) for n, k in zip(sizes, layers))
  solved = _solve({i: sizes[i] for i in shares}, shares, keep)
  return treedef.unflatten(
    [None if score is None else solved.get(i, 0.0) for i, score in enumerate(found)]
  )


def _dims(
  function: str, params: Params, counted: Callable[..., Any], roles: Roles | None
) -> tuple[list[tuple[int, ...]], list[int]]:
  """The dims of each leaf that count, and how many layers it has."""
  shapes = tree.shapes(params)
  found = roles_or_names(function, shapes, roles)
  known = {path: role for path, role in found.items() if role is not None and role.known}
  dims = [counted(shape, known.get(path)) for path, shape in shapes.items()]
  return dims, [known[path].stack if path in known else 1 for path in shapes]


def _log_share(dims: tuple[int, ...]) -> float:
  """Logarithm of sum over product: its powers neither over- nor underflow."""
  return math.log(sum(dims)) - math.log(math.prod(dims)) if dims else 0.0


def _zeros(size: int, sparsity: float) -> int:
  """``sparsity * size``, rounded down; 0.29 * 100 = 28.999999999999996 is meant to be 29."""
  return min(size, math.floor(sparsity * size * (1 + 1e-12)))


def _solve(sizes: dict[int, int], shares: dict[int, float], keep: int) -> dict[int, float]:
  """Sparsities of leaves that keep ``keep`` weights in all.

  Args:
    sizes: of each leaf, at least 1.
    shares: logarithm of each leaf's density, up to a common factor.
    keep: between 0 and the sum of sizes.
  """
  sparsities = dict.fromkeys(sizes, 0.0)
  free = list(sizes)
  while free:
    top = max(shares[i] for i in free)
    weights = {i: math.exp(shares[i] - top) for i in free}
    factor = keep / math.fsum(sizes[i] * weights[i] for i in free)
    full = {i for i in free if factor * weights[i] >= 1.0}
    if not full:
      return sparsities | {i: 1.0 - factor * weights[i] for i in free}
    # What the full leaves don't take only raises the factor for the rest, so none comes back.
    keep = max(0, keep - sum(sizes[i] for i in full))
    free = [i for i in free if i not in full]
  return sparsities
