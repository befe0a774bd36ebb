"""Small models on disk: params and plan in one file."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax

from jprune import _checks, tree
from jprune._entry import explicit
from jprune._shrink import Plan, Shrunk
from jprune._shrink.plan import as_bools
from jprune.graph._program.outputs import Filter
from jprune.graph._program.sharding import divided
from jprune.graph._shrunk.program import Program
from jprune.io._load import read_all
from jprune.io._save import write
from jprune.io._shards import Files
from jprune.typing import Params

PLAN = 'plan'  # of the metadata


@explicit
def save_shrunk(path: str | os.PathLike[str], small: Shrunk, params: Params | None = None) -> None:
  """Saves a small model as one safetensors file: its params and its plan.

  The function isn't in it: :func:`load_shrunk` is given the one that was shrunk. The params are
  stored as :func:`save` stores them, which :func:`load` reads too.

  Args:
    path: of the file; its folder must exist. A file that is there is replaced.
    small: what :func:`shrink` returns.
    params: small params to save instead of ``small.params``, trained ones as a rule.

  Raises:
    ImportError: if safetensors is not installed.
    OSError, FileNotFoundError: as for :func:`save`.
    TypeError: if ``small`` is something else; as for :func:`save`.
    ValueError: if ``params`` aren't of the paths and shapes of ``small.params``; as for
      :func:`save`.

  Examples:
    >>> import os, tempfile
    >>> fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
    >>> params = {'in': jnp.arange(6.0).reshape(2, 3), 'out': jnp.ones((3, 1))}
    >>> keep = jnp.array([True, False, True])
    >>> masks = {'in': jnp.stack([keep] * 2), 'out': keep[:, None]}
    >>> small = jprune.shrink(fn, params, masks, jnp.ones((4, 2)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...   path = os.path.join(folder, 'small.safetensors')
    ...   save_shrunk(path, small)
    ...   again = load_shrunk(path, fn)
    >>> again
    Shrunk(Plan(6 of 9 weights, 1 group))
    >>> again.fn(again.params, jnp.ones((1, 2)))
    Array([[10.]], dtype=float32)
  """
  if not isinstance(small, Shrunk):
    raise _checks.not_shrunk('save_shrunk', small)
  if params is None:
    params = small.params
  shapes = {name: small.plan.small_shape(name) for name in small.plan.shapes}
  paths, leaves, _ = tree.flatten(params)
  if sorted(paths) != sorted(shapes):
    missing = [name for name in shapes if name not in paths]
    extra = [name for name in paths if name not in shapes]
    raise _checks.other_params('save_shrunk', missing, extra, paths, 'small.params')
  for name, leaf in zip(paths, leaves):
    _checks.check_shape('save_shrunk', 'params', name, leaf, shapes[name])
  write('save_shrunk', path, params, **{PLAN: small.plan.to_dict()})


@explicit
def load_shrunk(
  path: str | os.PathLike[str],
  fn: Callable[..., Any],
  like: Params | None = None,
  small_outputs: Filter = None,
) -> Shrunk:
  """Loads what :func:`save_shrunk` saved: the small function, params and plan.

  Args:
    path: of a file that :func:`save_shrunk` wrote.
    fn: the function that was shrunk, which takes full params: ``model.apply``, or the function of
      :func:`jprune.nnx.functional`. It isn't called yet.
    like: tree with the leaf paths of the params, full or small: params, or shape structs as
      ``jax.eval_shape`` gives them. Their containers, which the file can't name all, and their
      shardings are followed, as :func:`load` has it. By default dicts, lists and tuples come back.
    small_outputs: what :func:`shrink` was given.

  Returns:
    A :class:`Shrunk` like the one that was saved: ``fn``, ``params`` and ``plan``.

  Raises:
    ImportError: if safetensors is not installed.
    FileNotFoundError, OSError: as for :func:`load`.
    TypeError: if ``fn`` is no function.
    ValueError: if the file is none of :func:`save_shrunk`; if ``like`` doesn't fit it; as for
      :func:`load`.

  Examples:
    See :func:`save_shrunk`.

    >>> load_shrunk('small.safetensors', None)
    Traceback (most recent call last):
      ...
    TypeError: load_shrunk: `fn` must be a function of the params ...
  """
  if not callable(fn):
    raise _checks.not_a_function('load_shrunk', fn)
  plans: list[Plan] = []

  def prepare(reader: Files, contents: dict[str, Any]) -> Any:
    if (plan := plan_of(reader, contents)) is None:
      raise _checks.no_plan_in_file(reader.function, reader.path)
    plans.append(plan)
    return None if like is None else _small_structs(plan, like)

  params, _ = read_all('load_shrunk', path, prepare)
  (plan,) = plans
  paths, leaves, treedef = tree.flatten(params)
  if {name: leaf.shape for name, leaf in zip(paths, leaves)} != {
    name: plan.small_shape(name) for name in plan.shapes
  }:
    detail = 'its plan is not that of its params'
    raise _checks.damaged_file('load_shrunk', _checks.as_path('load_shrunk', path), detail)
  shapes = {name: plan.shapes[name] for name in paths}  # in the order of this tree
  return Shrunk(Program(fn, shapes, treedef, as_bools(plan), small_outputs), params, plan)


def plan_of(reader: Files, contents: dict[str, Any]) -> Plan | None:
  """The plan in the metadata of a file; ``None`` if it is none of a small model."""
  if PLAN not in contents:
    return None
  try:
    return Plan.from_dict(contents[PLAN])
  except ValueError as error:
    raise _checks.damaged_file(reader.function, reader.path, error) from None


def _small_structs(plan: Plan, like: Params) -> Params:
  """The tree with small shapes, on the devices of what is committed to some."""
  paths, leaves, treedef = tree.flatten(like)
  return treedef.unflatten([_small_struct(plan, *each) for each in zip(paths, leaves)])


def _small_struct(plan: Plan, path: str, leaf: Any) -> Any:
  if path not in plan.shapes or not tree.is_array(leaf) or leaf.shape != plan.shapes[path]:
    return leaf
  shape, sharding = plan.small_shape(path), getattr(leaf, 'sharding', None)
  if isinstance(sharding, jax.sharding.NamedSharding):
    sharding = divided(sharding, shape)
  free = isinstance(leaf, jax.Array) and not leaf.committed
  return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=None if free else sharding)
