"""The words that signatures use: trees of arrays, and the callables that map them.

- trees: ``Params``, ``Masks``, ``Scores``, ``Sparsities``; by path: ``ByPath``
- what selects leaves: ``Where``
- callables: ``Scorer``, ``Distribution``, ``LossFn``, ``Schedule``; what goes together: ``Pattern``
- words: ``Scope``, ``Reduction``, ``Normalization``

Examples:
  >>> params: Params = {'kernel': jnp.array([[1.0, -3.0], [2.0, 0.5]]), 'bias': jnp.zeros(2)}
  >>> scores: Scores = {'kernel': jnp.abs(params['kernel']), 'bias': None}
  >>> sparsities: Sparsities = {'kernel': 0.25}  # by path; or 0.25, or a tree
  >>> masks: Masks = jprune.masks.top_k(scores, sparsities)
  >>> masks['kernel'], masks['bias']
  (Array([[ True,  True],
         [ True, False]], dtype=bool), None)

  >>> where: Where = ['bias']  # or lambda path, leaf: leaf.ndim == 1
  >>> jprune.prune(params, 0.5, where=where)['kernel'] is None
  True

  >>> weights: ByPath = dict(kernel=params['kernel'])
  >>> weights['kernel'].shape
  (2, 2)

  >>> schedule: Schedule = jprune.schedules.linear(0.0, 0.8, begin=0, end=10)
  >>> f'{schedule(5):.1f}'
  '0.4'

  Words are literals, so that an editor offers them, and a type checker finds what is misspelt:

  >>> scope: Scope = 'global'
  >>> reduce: Reduction = 'l2'
  >>> normalize: Normalization = 'max'
  >>> graph = jprune.graph.channels(
  ...   lambda p, x: x @ p['in'] @ p['out'],
  ...   *({'in': jnp.ones((2, 4)), 'out': jnp.ones((4, 2))}, jnp.ones(2)),
  ... )
  >>> groups = jprune.ChannelGroups(graph, scope=scope, reduce=reduce, normalize=normalize)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import jax

__all__ = [
  'ByPath',
  'Distribution',
  'LossFn',
  'Masks',
  'Normalization',
  'Params',
  'Pattern',
  'Reduction',
  'Schedule',
  'Scope',
  'Scorer',
  'Scores',
  'Sparsities',
  'Where',
]


def __dir__() -> list[str]:
  return [*__all__, *(name for name in globals() if name.startswith('__'))]


Params: TypeAlias = Any
"""Tree of parameters: any pytree whose leaves are arrays."""

Masks: TypeAlias = Any
"""Tree with the structure of the params. A leaf is a bool array of the param's shape
(``True`` = keep), a :class:`jprune.masks.PackedMask`, or ``None`` (= stays dense)."""

Scores: TypeAlias = Any
"""Tree with the structure of the params. A leaf is a floating array of the param's shape
(higher = keep), or ``None`` (= not scored)."""

Sparsities: TypeAlias = Any
"""Fraction of zeros in [0, 1]: one number for all leaves; a tree with the structure of the
params (``None`` = stays dense); or a dict from leaf path to number (paths that are left out
stay dense)."""

Where: TypeAlias = Any
"""What selects leaves:

- ``None``: kernels, by the roles of a function where there are any, else as far as names tell:
  floating leaves with two axes longer than 1 that are no biases, norms, class tokens, position
  tables or state. :func:`jprune.tree.skipped` says why a leaf is left out.
- a regular expression, searched for in the leaf's path: those of the default that it is found in.
  ``'^(?!.*head)'`` is all kernels but the head's.
- a predicate ``(path, leaf) -> bool``: exactly these, whatever they are.
- a tree of bools with the structure of the params: exactly these.
- what :func:`jprune.graph.roles` found: the kernels.
- a list of these: what any of them selects. A string that is the path of a leaf selects exactly
  that one; each entry has to select something.
"""

ByPath: TypeAlias = Mapping[str, Any]
"""A dict from the paths of leaves, such as ``'Dense_0/kernel'``, to arrays, in the order of the
leaves."""

Schedule: TypeAlias = Callable[[Any], Any]
"""``count -> sparsity``: the step, an int or an int array, to a fraction in [0, 1]."""

Scope: TypeAlias = Literal['local', 'global', 'isomorphic']
"""Who competes in :func:`jprune.masks.channels`: the units of each group by itself, those of all
groups, or those of groups whose members are alike."""

Reduction: TypeAlias = Literal['mean', 'sum', 'max', 'l2']
"""How the scores of a unit's weights become one."""

Normalization: TypeAlias = Literal['mean', 'max', 'gaussian']
"""What the scores of a group are divided by before groups compete."""


class Scorer(Protocol):
  """``scorer(params, **scorer_args) -> scores``. A random scorer takes ``key``.

  Examples:
    >>> def grown(params, *, initial):
    ...   return jax.tree.map(lambda now, then: abs(now) - abs(then), params, initial)
    >>> now, then = jnp.array([[1.0, 3.0]] * 2), jnp.array([[0.0, 4.0]] * 2)
    >>> jprune.prune({'w': now}, 0.5, scorer=grown, initial={'w': then})['w']
    Array([[ True, False],
           [ True, False]], dtype=bool)
  """

  def __call__(self, params: Params, /, *args: Any, **kwargs: Any) -> Scores: ...


class Distribution(Protocol):
  """``distribution(params, scores, sparsity) -> sparsities``, one number for each leaf.

  ``params`` and ``scores`` hold ``None`` where a leaf is not to be pruned. An argument ``roles`` is
  passed what a function does with each leaf. What else a distribution needs, it says by attributes,
  each of which it may leave out:

  - ``needs_scores``: whether it looks at the values of scores. With ``False`` it gets by with
    shapes, so nothing has to be scored or captured for it. By default it looks at them.
  - ``needs_sparsity``: ``True`` if an overall sparsity has to be given; ``False`` if it has its own
    sparsities, so that none is searched for, and training approaches those. By default it is passed
    what is given, or ``None``.
  - ``shares_alike``: whether all leaves get the overall sparsity, as with patterns that prune all
    leaves alike, such as :class:`jprune.masks.NOfM`. By default not.
  - ``one_threshold``: whether all weights compete for the same places. Then the lowest scores of
    all leaves together go, and what it returns isn't asked for. By default not.

  Examples:
    >>> def spare_small(params, scores, sparsity):
    ...   return jax.tree.map(lambda leaf: sparsity if leaf.size > 4 else sparsity / 2, params)
    >>> params = {'large': jnp.ones((2, 4)), 'small': jnp.ones((2, 2))}
    >>> masks = jprune.prune(params, 0.5, distribution=spare_small)
    >>> int(masks['large'].sum()), int(masks['small'].sum())
    (4, 3)
    >>> spare_small.needs_sparsity = True
    >>> jprune.prune(params, distribution=spare_small)
    Traceback (most recent call last):
      ...
    TypeError: prune: `sparsity` must be a number in [0, 1]; got None...
  """

  def __call__(self, params: Params, scores: Scores, sparsity: float, /) -> Sparsities: ...


class LossFn(Protocol):
  """``loss_fn(params, batch) -> scalar``, the mean over the batch.

  Examples:
    >>> loss_fn = lambda params, x: jnp.mean(x @ params['w'])
    >>> jprune.scores.snip({'w': jnp.array([1.0, -2.0])}, loss_fn, jnp.array([[3.0, 1.0]]))['w']
    Array([3., 2.], dtype=float32)
  """

  def __call__(self, params: Params, batch: Any, /) -> jax.Array: ...


@runtime_checkable
class Pattern(Protocol):
  """Which weights live and die together: the unit that selection counts.

  ``check`` refuses shapes that the pattern doesn't fit, ``unit_scores`` reduces the scores of
  one leaf to one score for each unit, ``expand`` spreads a mask over units back to weights.

  Examples:
    >>> class Columns:
    ...   def check(self, function, path, shape):
    ...     if len(shape) != 2:
    ...       raise ValueError(f'{function}: Columns needs matrices; got {shape} at {path}.')
    ...
    ...   def unit_scores(self, scores):
    ...     return jnp.nanmean(scores, axis=0)
    ...
    ...   def expand(self, units, shape):
    ...     return jnp.broadcast_to(units, shape)
    >>> isinstance(Columns(), Pattern)
    True
    >>> params = {'w': jnp.array([[3.0, 1.0], [3.0, 4.0]])}
    >>> jprune.prune(params, 0.5, pattern=Columns())['w']
    Array([[ True, False],
           [ True, False]], dtype=bool)
  """

  def check(self, function: str, path: str, shape: tuple[int, ...]) -> None: ...

  def unit_scores(self, scores: jax.Array) -> jax.Array: ...

  def expand(self, units: jax.Array, shape: tuple[int, ...]) -> jax.Array: ...
