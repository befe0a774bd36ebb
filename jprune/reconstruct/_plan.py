"""What a repair will hold and compute, from shapes alone."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding

from jprune import _checks, tree
from jprune._entry import public
from jprune._signature import readable
from jprune.graph._capture.capturing import Capturing
from jprune.graph._statistics.split import Split
from jprune.graph._statistics.stats import Use
from jprune.reconstruct import _errors, _leaves, _plan_table, _stages, _units
from jprune.reconstruct._alps import ALPS, alps
from jprune.reconstruct._least_squares import LeastSquares, least_squares
from jprune.reconstruct._masked import Masked
from jprune.reconstruct._sparsegpt import SparseGPT, sparsegpt
from jprune.reconstruct._table import MASKS_ALONE
from jprune.typing import Params, Where

_SOLVERS = {sparsegpt: SparseGPT, alps: ALPS, least_squares: LeastSquares, None: Masked}
_FLOAT = 4


@dataclasses.dataclass(frozen=True)
class StagePlan:
  """Leaves that share their inputs, and so their Gram matrices.

  Attributes:
    paths: of the leaves.
    steps: how often there is such a stage: once for each step of a scan if that is pruned step by
      step.
    matrices: of all leaves together, in a step.
    gram_bytes: of the Gram matrices of a step, on all devices together.
    gram_share: what one device holds of them.
    unit_bytes: what a device takes besides to solve its unit, the largest of the stage: the matrix
      and its Gram matrix, whole, and the workspace.
    macs: multiply-adds of solving a step, at most.
    rounds: how many units the busiest device solves in a step.
    owners: how many devices have something to solve.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> params = {'w': jax.ShapeDtypeStruct((64, 32), jnp.float32)}
    >>> (stage,) = plan(fn, params, jax.ShapeDtypeStruct((8, 64), jnp.float32)).stages
    >>> stage.paths, stage.gram_bytes
    (('w',), 16384)
  """

  paths: tuple[str, ...]
  steps: int
  matrices: int
  gram_bytes: int
  gram_share: int
  unit_bytes: int
  macs: int
  rounds: int
  owners: int


@dataclasses.dataclass(frozen=True, repr=False)
class Plan:
  """What :func:`plan` found; ``print`` shows a table as wide as the terminal, notebooks HTML.

  Bytes are those of the device that holds most. What the model itself takes to run a batch isn't
  among them, nor is what waits on the host.

  Attributes:
    method: the function that repairs.
    devices: how many there are.
    params_bytes: of the params, as they come.
    result_bytes: of repaired leaves and masks, which are new arrays.
    gram_bytes: of the Gram matrices that are held at a time.
    stages: a :class:`StagePlan` for each group of leaves.
    skipped: pairs of a path and the reason, for selected leaves that can't be repaired.

  Examples:
    >>> fn = lambda params, x: x @ params['w']
    >>> params = {'w': jax.ShapeDtypeStruct((64, 32), jnp.float32)}
    >>> found = plan(fn, params, jax.ShapeDtypeStruct((8, 64), jnp.float32))
    >>> found.devices, found.params_bytes, found.gram_bytes
    (1, 8192, 16384)
  """

  method: str
  devices: int
  params_bytes: int
  result_bytes: int
  gram_bytes: int
  stages: tuple[StagePlan, ...]
  skipped: tuple[tuple[str, str], ...] = ()

  @property
  def unit_bytes(self) -> int:
    """What the largest unit takes to be solved."""
    return max((stage.unit_bytes for stage in self.stages), default=0)

  @property
  def peak_bytes(self) -> int:
    """Of one device, while statistics of two batches are added up or units are solved."""
    solving = self.result_bytes + self.gram_bytes + self.unit_bytes
    return self.params_bytes + max(2 * self.gram_bytes, solving)

  @property
  def macs(self) -> int:
    """Multiply-adds of all solving, at most."""
    return sum(stage.steps * stage.macs for stage in self.stages)

  def __str__(self) -> str:
    return _plan_table.text(self)

  def __repr__(self) -> str:
    return f'<Plan: {_plan_table.summary(self)}>'

  def _repr_html_(self) -> str:
    return _plan_table.html(self)

  def to_dict(self) -> dict[str, Any]:
    """Everything as plain, JSON-serialisable Python values.

    Returns:
      The attributes, ``'unit_bytes'``, ``'peak_bytes'`` and ``'macs'``; stages as dicts, what was
      skipped as ``{path: reason}``.
    """
    out = dataclasses.asdict(self)
    more = {name: getattr(self, name) for name in ('unit_bytes', 'peak_bytes', 'macs')}
    stages = [each | {'paths': list(each['paths'])} for each in out['stages']]
    return out | {'stages': stages, 'skipped': dict(self.skipped)} | more


@readable
@functools.partial(public, name='reconstruct.plan')
def plan(
  fn: Callable[..., Any],
  params: Params,
  *args: Any,
  sparsity: float = 0.5,
  method: Callable[..., Any] | None = sparsegpt,
  where: Where = None,
  sequential: bool = False,
  chunked: bool = False,
) -> Plan:
  """Tells what :func:`prune` will hold on each device, and compute, before anything runs.

  From shapes, dtypes and shardings alone, so a model that fits nowhere can be planned on a laptop:
  params and arguments may be ``jax.ShapeDtypeStruct`` s, with a ``sharding`` on a
  ``jax.sharding.AbstractMesh`` of as many devices as there will be. Workspaces are what XLA
  reported for programs compiled on CPU, as so many times the sizes of a matrix.

  Args:
    fn: as for :func:`prune`.
    params: tree of arrays or shape structs; that of an opened checkpoint counts as if it were in
      memory.
    *args: one batch, the arguments of ``fn`` after the params, arrays or shape structs.
    sparsity: fraction of zeros; what :func:`least_squares` takes depends on it.
    method: :func:`sparsegpt`, :func:`alps`, :func:`least_squares` (options bound with
      ``functools.partial``) or ``None``.
    where: selects the leaves, as for :func:`prune`.
    sequential: as for :func:`prune`.
    chunked: as for :func:`prune`.

  Returns:
    A :class:`Plan`.

  Raises:
    ValueError: if nothing is selected, no selected leaf is multiplied by anything, or the sparsity
      is outside [0, 1].
    TypeError: if ``fn`` is no function or can't be traced, or the method is another one.

  Examples:
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> struct = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.bfloat16)
    >>> params = {'in': struct(1024, 4096), 'out': struct(4096, 1024)}
    >>> print(plan(fn, params, struct(8, 1024)))
    stage   times  matrices    grams  on a device  to solve     MACs  rounds
    ------------------------------------------------------------------------
    in          1         1  4.19 MB      4.19 MB   65.0 MB  15.75 G       1
    out         1         1  67.1 MB      67.1 MB    537 MB  105.9 G       1
    ------------------------------------------------------------------------
    in all      2                         71.3 MB    537 MB  121.7 G
    <BLANKLINE>
    By sparsegpt, on 1 device. Each holds at most 650 MB: params 16.8 MB, repaired
    leaves and masks 25.2 MB, Gram matrices 71.3 MB (twice that while batches are
    added up), the unit that it solves 537 MB; and what the model takes to run a
    batch.
  """
  function = 'reconstruct.plan'
  _checks.check_fraction(function, 'sparsity', sparsity)
  solver = _SOLVERS.get(getattr(method, 'func', method))
  if solver is None:
    raise _errors.not_planned(function, method)
  selected = _leaves.real(function, params, where)
  plain = jax.tree.map(_plain, (params, args))
  shapes = Capturing(function, fn, selected, True, None).places(*plain)
  usable, why = _leaves.usable(shapes)
  if not usable:
    raise _errors.nothing_captured(function, why)
  split = _split_of((params, args))
  groups = _stages.groups_of(shapes, usable)
  steps = {stage.paths: stage.steps for stage in _stages.in_turn(groups, shapes)}
  known = dict(shapes.uses)
  leaves = dict(zip(*tree.flatten(params)[:2]))
  options = getattr(method, 'keywords', {})
  stages = []
  for group in groups:
    uses = [(leaves[path], use) for path in group.paths for use in known[path]]
    times = steps[group.paths] if sequential else 1
    stages.append(_stage(group.paths, times, uses, solver, options, sparsity, split))
  held = [stage.gram_share for stage in stages]
  chosen = [leaves[path] for path in usable]
  return Plan(
    MASKS_ALONE if method is None else getattr(method, 'func', method).__name__,
    1 if split is None else split.mesh.size,
    sum(map(_share, leaves.values())),
    sum(_share(leaf) + _share(leaf) // leaf.dtype.itemsize for leaf in chosen),
    max(held) if sequential or chunked else sum(held),
    tuple(stages),
    tuple(each for each in why if each[0] not in usable),
  )


def _stage(
  paths: tuple[str, ...],
  steps: int,
  uses: Sequence[tuple[Any, Use]],
  solver: Any,
  options: dict[str, Any],
  sparsity: float,
  split: Split | None,
) -> StagePlan:
  devices = 1 if split is None else split.mesh.size
  sizes = [(use.sizes[0] // steps, *use.sizes[1:]) for _, use in uses]
  grams = {use.source: (n, inputs, inputs) for (_, use), (n, inputs, _) in zip(uses, sizes)}
  units: dict[Any, int] = {}
  largest = macs = 0
  for (leaf, _), each in zip(uses, sizes, strict=True):
    per = _units.matrices_of_a_unit(each)
    key = each[1:], leaf.dtype, per
    units[key] = units.get(key, 0) + len(_units.starts(each[0], per))
    largest = max(largest, _unit_bytes(each, leaf.dtype, per, solver, sparsity))
    macs += each[0] * solver.macs(each, sparsity, **options)
  whole = [math.prod(shape) for shape in grams.values()]
  shares = [math.prod(_shard(split, shape)) for shape in grams.values()]
  return StagePlan(
    paths,
    steps,
    sum(n for n, *_ in sizes),
    _FLOAT * sum(whole),
    _FLOAT * sum(shares),
    largest,
    macs,
    sum(-(-count // devices) for count in units.values()),
    min(max(units.values()), devices),
  )


def _unit_bytes(
  sizes: tuple[int, int, int], dtype: Any, per: int, solver: Any, sparsity: float
) -> int:
  """What an owner gets, computes with, and gives back."""
  _, inputs, outputs = sizes
  weights = inputs * outputs * (dtype.itemsize + 1)
  return per * (_FLOAT * inputs**2 + 2 * weights) + _FLOAT * solver.floats(sizes, sparsity)


def _split_of(values: Any) -> Split | None:
  """The devices over which any array will be spread, the most there are."""
  shardings = [getattr(leaf, 'sharding', None) for leaf in jax.tree.leaves(values)]
  meshes = [each.mesh for each in shardings if isinstance(each, NamedSharding)]
  mesh: Any = max(meshes, key=lambda mesh: mesh.size, default=None)
  return None if mesh is None or mesh.size == 1 else Split(mesh, True)


def _shard(split: Split | None, shape: tuple[int, ...]) -> tuple[int, ...]:
  return shape if split is None else NamedSharding(split.mesh, split.spec(shape)).shard_shape(shape)


def _share(leaf: Any) -> int:
  """Bytes of a leaf on a device."""
  sharding = getattr(leaf, 'sharding', None)
  shape = tuple(leaf.shape) if sharding is None else sharding.shard_shape(tuple(leaf.shape))
  return math.prod(shape) * leaf.dtype.itemsize


def _plain(leaf: Any) -> Any:
  """Shape and dtype alone, as what will hold the array may not be there."""
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if hasattr(leaf, 'shape') else leaf
