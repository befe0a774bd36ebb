"""One call for all methods of sparse training."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, TypeVar, cast

import jax
import optax

from jprune import _checks, distributions, scores
from jprune._asked import Asked
from jprune._roles import Roles
from jprune._selection import takes
from jprune._signature import readable
from jprune.masks import ChannelGroups, NOfM, Unstructured
from jprune.transforms import _errors
from jprune.transforms._averaged import averaged
from jprune.transforms._frame import MethodFrame
from jprune.transforms._how import How
from jprune.transforms._meshes import OnMeshes
from jprune.transforms._method import Method
from jprune.transforms._transformation import transformation
from jprune.transforms._when import when
from jprune.typing import Distribution, Masks, Pattern, Schedule, Scorer, Scores, Where


class _Shared(TypedDict, total=False):
  """What no method has an argument of its own for."""

  scorer: Scorer | Scores
  where: Where
  roles: Roles | None
  masks: Masks
  min_keep: int
  max_sparsity: float
  per_output: bool
  packed: bool
  clock: bool
  average_params: float
  average_grads: float


class SettingsAndPattern(_Shared, total=False):
  """What methods take besides that have a ``distribution`` among their own arguments.

  Examples:
    >>> settings: SettingsAndPattern = {'where': 'kernel', 'pattern': jprune.NOfM(2, 4)}
    >>> tx = jprune.transforms.rigl(
    ...   optax.sgd(0.1), 0.5, every=10, key=jax.random.key(0), **settings
    ... )
  """

  pattern: Pattern | NOfM | ChannelGroups


class SettingsAndDistribution(_Shared, total=False):
  """What methods take besides that have a ``pattern`` among their own arguments.

  Examples:
    >>> settings: SettingsAndDistribution = {'where': 'kernel', 'packed': True}
    >>> tx = jprune.transforms.s_ste(optax.sgd(0.1), pattern=jprune.NOfM(2, 4), **settings)
  """

  distribution: Distribution


class Settings(SettingsAndPattern, SettingsAndDistribution, total=False):
  """What all methods take by these names; :func:`sparse_training` says what each of them means.

  Examples:
    >>> settings: Settings = {'where': 'kernel', 'packed': True}
    >>> tx = jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=10, **settings)
  """


S = TypeVar('S', bound=_Shared)
F = TypeVar('F', bound=Callable[..., Any])


@readable
def sparse_training(
  method: Method,
  inner: optax.GradientTransformation,
  sparsity: float | Schedule,
  *,
  every: int,
  end: int | None = None,
  scorer: Scorer | Scores = scores.magnitude,
  distribution: Distribution = distributions.uniform,
  pattern: Pattern | NOfM | ChannelGroups = Unstructured(),
  where: Where = None,
  roles: Roles | None = None,
  key: jax.Array | None = None,
  masks: Masks = None,
  min_keep: int = 0,
  max_sparsity: float = 1.0,
  per_output: bool = False,
  packed: bool = False,
  clock: bool = True,
  average_params: float = 0.0,
  average_grads: float = 0.0,
) -> optax.GradientTransformationExtraArgs:
  """An optimizer around which a method prunes; what :func:`gradual`, :func:`rigl` and so on call.

  An ordinary optax transformation. *Count* is the number of calls of ``update`` so far. Masks
  change on calls with ``count % every == 0`` and at the end of the schedule, by the params and
  gradients of that call; in all others they stay. After ``optax.apply_updates`` pruned weights are
  exactly 0.0. The inner optimizer sees zeros for them, in params and gradients, and where weights
  change sides its moments are as at its ``init``, whichever optimizer it is.

  Put it where the updates are those that are really added to the params: ``optax.MultiSteps``,
  ``optax.apply_if_finite`` and other wrappers that hold updates back go inside, as ``inner``.
  Outside of them, a method whose masks start with zeros has to start from
  ``jprune.apply(params, masks_of(state))``.

  Args:
    method: how masks change.
    inner: the optimizer.
    sparsity: the fraction of zeros over all leaves that are pruned, or a schedule of it. Of more
      than 1,024 changes on the way some share a number; the last one has its own.
    every: the number of calls between changes of masks.
    end: the last call on which masks change; by default the end of the schedule, or, for methods
      in which weights come back, none. Schedules that aren't of :mod:`jprune.schedules` need one.
    scorer: ``scorer(params)``, or ``scorer(params, grads=..., key=...)`` if it has such arguments,
      for methods that ask for scores; or the scores themselves. Gradients are float32, zeros of
      other leaves included.
    distribution: as for :func:`jprune.prune`. One that has its own sparsities, such as
      :func:`jprune.distributions.fixed`, reaches them when the schedule has its last value, and
      before that the same part of each. One that looks at scores looks at those at ``init``.
    pattern: as for :func:`jprune.prune`. With :class:`~jprune.masks.NOfM` more and more of every m
      weights go, as the schedule has it, until n are left.
    where: which leaves are pruned, as for :func:`jprune.prune`.
    roles: what a function does with each leaf, as for :func:`jprune.prune`.
    key: a typed random key, for methods and scorers that draw. The state holds it.
    masks: with which training starts, as trees for :func:`jprune.apply`. By default nothing is
      pruned, or what the method chooses.
    min_keep: the least number of weights that a leaf keeps, as for :func:`jprune.prune`.
    max_sparsity: the largest fraction that a leaf loses, as for :func:`jprune.prune`.
    per_output: whether both hold for each output.
    packed: whether the state holds masks at one bit a weight instead of one byte.
    clock: whether weights that come back get a bias correction of their own from Adam-like inner
      optimizers (any whose state has ``count``, ``mu`` and ``nu``), as SMET has it; else their
      first steps are up to 3 times too long. It takes one byte a weight; where moments are so
      narrow that a beta is rounded to 1, as .999 is in bfloat16, it has no effect.
    average_params: with a number in (0, 1), weights are chosen by running means of the params, each
      call's times one minus it, in float32.
    average_grads: the same of the gradients.

  Returns:
    A gradient transformation whose state is a :class:`SparseState`. ``update`` needs ``params``,
    and passes extra arguments on to the inner optimizer.

  Raises:
    ValueError: if a number is out of range, the schedule falls where no weight comes back, or ends
      after ``end``; by ``init``, if nothing is selected, the pattern doesn't fit, or the masks are
      denser than the sparsity with which training starts; by ``update``, for another tree than
      ``init`` saw, or without ``params``.
    TypeError: if a number isn't one, a key is missing, or a schedule has no end; by ``init``, if a
      selected leaf isn't floating.

  Examples:
    >>> random = jprune.transforms.Method('random', lambda step: (step.best(step.scores()), ()))
    >>> tx = sparse_training(
    ...   random, optax.sgd(0.1), 0.5, every=10, scorer=jprune.scores.random, key=jax.random.key(0)
    ... )
    >>> params = {'kernel': jnp.ones((2, 4))}
    >>> updates, state = tx.update(params, tx.init(params), params)
    >>> int(jnp.sum(optax.apply_updates(params, updates)['kernel'] == 0.0))
    4

  References:
    Zhong et al., SMET, 2026, arXiv:2606.00888, for the clock of weights that come back
  """
  asked = Asked(distribution, pattern, roles, min_keep, max_sparsity, per_output)
  asked.check(method.name)
  _check_scorer(method, scorer, key)
  _errors.check_optimizer(method.name, inner)
  changes = when(method.name, sparsity, every, end, method.regrows)
  method = averaged(method, average_params, average_grads)
  how = How(method, scorer, asked, where, _data_of(key), changes.final)
  inner = optax.with_extra_args_support(inner)
  frame = MethodFrame(method, inner, changes, how, masks, packed, clock)
  meshes = OnMeshes(frame)
  return transformation(meshes.init, meshes.update)


def _data_of(key: Any) -> tuple[Any, Any]:
  """A random key as its data and what makes a key of them; both ``None`` without one."""
  return (None, None) if key is None else (jax.random.key_data(key), jax.random.key_impl(key))


def _check_scorer(method: Method, scorer: Any, key: Any) -> None:
  """Refuses, before training, what a scorer would miss in the middle of it; and keys for nobody."""
  _checks.check_scorer(method.name, scorer)
  draws = callable(scorer) and takes(scorer, 'key')
  if callable(scorer):
    bound = getattr(scorer, 'keywords', {})
    draws = draws and 'key' not in bound
    given = {'grads', 'key', 'roles', *bound}
    if missing := _checks.missing_arguments(scorer, given):
      raise _checks.scorer_takes_more(method.name, scorer, missing)
  if method.random or draws or key is not None:
    _checks.check_key(method.name, key)


def names_first(function: F) -> F:
  """A method that says which keyword it hasn't, before Python says which one is missing."""
  own = [name for name in inspect.signature(function).parameters if name != 'settings']
  known = [*own, *Settings.__annotations__]

  @functools.wraps(function)
  def call(*args: Any, **kwargs: Any) -> Any:
    for argument in kwargs:
      if argument not in known:
        raise _checks.unknown_argument(function.__name__, argument, known)
    return function(*args, **kwargs)

  return cast(F, call)


def checked(function: str, settings: S, *, from_masks: bool = False) -> S:
  """The settings of a method, if it has all of them.

  Args:
    function: the method.
    settings: given to it.
    from_masks: whether it can start from masks, and doesn't choose others at once.
  """
  if settings.get('masks') is not None and not from_masks:
    raise _errors.masks_change_at_once(function)
  return settings


def not_scored(
  function: str,
  settings: _Shared,
  arguments: Sequence[str] = ('scorer', 'average_params', 'average_grads'),
) -> None:
  """Refuses settings that say how weights are scored, for a method that has its own way."""
  for argument in arguments:
    if argument in settings:
      raise _errors.scores_of_its_own(function, argument)
