"""Sparse from the start: weights are dropped and others grown, at a constant or falling density."""

from __future__ import annotations

import functools
from typing import Unpack

import jax
import optax

from jprune import _checks, distributions
from jprune.transforms._method import Method
from jprune.transforms._regrown import (
  at_random,
  both,
  chances,
  gradient,
  magnitude,
  regrowing,
  settled,
)
from jprune.transforms._sparse_training import SettingsAndPattern, names_first, sparse_training
from jprune.typing import Distribution, Schedule


@names_first
def static(
  inner: optax.GradientTransformation,
  sparsity: float,
  *,
  key: jax.Array,
  distribution: Distribution | None = None,
  **settings: Unpack[SettingsAndPattern],
) -> optax.GradientTransformationExtraArgs:
  """Static sparse training: masks at random that stay as they are.

  What sparse training has to be better than.

  Args:
    inner: the optimizer.
    sparsity: the fraction of zeros.
    key: a typed random key.
    distribution: as for :func:`jprune.prune`; by default :func:`~jprune.distributions.erk`, and
      :func:`~jprune.distributions.uniform` for patterns that prune all leaves alike.
    **settings: as for :func:`sparse_training`; ``masks=`` are those that stay, wherever from.

  Returns:
    As :func:`sparse_training`.

  Raises:
    ValueError: as :func:`sparse_training`.
    TypeError: as :func:`sparse_training`.

  Examples:
    >>> tx = static(optax.sgd(0.1), 0.75, key=jax.random.key(0))
    >>> params = {'kernel': jnp.ones((4, 4))}
    >>> int(jprune.transforms.masks_of(tx.init(params))['kernel'].sum())
    4

  References:
    Mocanu et al., Scalable training of artificial neural networks with adaptive sparse
    connectivity, Nature Communications 2018, arXiv:1707.04780, for the distribution of densities
  """
  method = Method('static', None, at_random, random=True)
  settings = settled('static', settings, distribution, distributions.erk)
  sparsity = _checks.static_fraction('static', 'sparsity', sparsity)
  return sparse_training(method, inner, sparsity, every=1, key=key, **settings)


@names_first
def sparse_evolution(
  inner: optax.GradientTransformation,
  sparsity: float | Schedule,
  *,
  every: int,
  key: jax.Array,
  end: int | None = None,
  drop: float | Schedule = 0.3,
  distribution: Distribution | None = None,
  **settings: Unpack[SettingsAndPattern],
) -> optax.GradientTransformationExtraArgs:
  """SET: the smallest weights are dropped, and as many grow at random.

  Args:
    inner: the optimizer.
    sparsity: the fraction of zeros, or a schedule of it; the first masks are at random.
    every: the number of calls between changes of masks; one epoch in the paper.
    key: a typed random key.
    end: the last call on which masks change; by default none.
    drop: the fraction of a leaf's weights that are replaced, or a schedule of it.
    distribution: as for :func:`jprune.prune`; by default :func:`~jprune.distributions.er`, and
      :func:`~jprune.distributions.uniform` for patterns that prune all leaves alike.
    **settings: as for :func:`sparse_training`.

  Returns:
    As :func:`sparse_training`. What is dropped may grow again at once.

  Raises:
    ValueError: as :func:`sparse_training`; if ``drop`` is outside [0, 1].
    TypeError: as :func:`sparse_training`.

  Examples:
    >>> tx = sparse_evolution(optax.sgd(0.1), 0.75, every=100, key=jax.random.key(0))
    >>> params = {'kernel': jnp.ones((4, 4))}
    >>> _, state = tx.update(params, tx.init(params), params)
    >>> int(jprune.transforms.masks_of(state)['kernel'].sum())
    4

  References:
    Mocanu et al., Scalable training of artificial neural networks with adaptive sparse
    connectivity, Nature Communications 2018, arXiv:1707.04780
  """
  method = regrowing('sparse_evolution', drop, magnitude, chances)
  settings = settled('sparse_evolution', settings, distribution, distributions.er)
  return sparse_training(method, inner, sparsity, every=every, end=end, key=key, **settings)


@names_first
def rigl(
  inner: optax.GradientTransformation,
  sparsity: float | Schedule,
  *,
  every: int,
  key: jax.Array,
  end: int | None = None,
  drop: float | Schedule = 0.3,
  distribution: Distribution | None = None,
  **settings: Unpack[SettingsAndPattern],
) -> optax.GradientTransformationExtraArgs:
  """RigL: the smallest weights are dropped, and as many grow where gradients are largest.

  On update steps the inner optimizer steps as well, which it doesn't in the paper; gradients are
  compared in float32 whatever the dtypes, but those that come in as bfloat16 have lost digits that
  matter: hand over float32 ones.

  Args:
    inner: the optimizer.
    sparsity: the fraction of zeros, or a schedule of it; the first masks are at random.
    every: the number of calls between changes of masks; 100 in the paper.
    key: a typed random key, for the first masks.
    end: the last call on which masks change, by default none; 3/4 of the training in the paper.
    drop: the fraction of a leaf's weights that are replaced, or a schedule of it; in the paper
      ``cosine(0.3, 0.0, 0, end)``.
    distribution: as for :func:`jprune.prune`; by default :func:`~jprune.distributions.erk`, and
      :func:`~jprune.distributions.uniform` for patterns that prune all leaves alike.
    **settings: as for :func:`sparse_training`.

  Returns:
    As :func:`sparse_training`. What is dropped may grow again at once.

  Raises:
    ValueError: as :func:`sparse_training`; if ``drop`` is outside [0, 1].
    TypeError: as :func:`sparse_training`.

  Examples:
    >>> drop = jprune.schedules.cosine(0.5, 0.0, 0, 7500)
    >>> tx = rigl(optax.sgd(0.1), 0.5, every=100, end=7500, drop=drop, key=jax.random.key(0))
    >>> params = {'kernel': jnp.array([[3.0, 4.0], [1.0, 2.0]])}
    >>> state = tx.init(params)
    >>> grads = {'kernel': jnp.array([[0.0, 0.0], [9.0, 0.0]])}
    >>> _, state = tx.update(grads, state, params)
    >>> masks = jprune.transforms.masks_of(state)['kernel']
    >>> int(masks.sum()), bool(masks[1, 0])
    (2, True)

  References:
    Evci et al., Rigging the lottery: making all tickets winners, ICML 2020, arXiv:1911.11134
  """
  method = regrowing('rigl', drop, magnitude, gradient)
  settings = settled('rigl', settings, distribution, distributions.erk)
  return sparse_training(method, inner, sparsity, every=every, end=end, key=key, **settings)


@names_first
def granet(
  inner: optax.GradientTransformation,
  sparsity: float | Schedule,
  *,
  every: int,
  key: jax.Array,
  end: int | None = None,
  drop: float | Schedule = 0.5,
  distribution: Distribution | None = None,
  **settings: Unpack[SettingsAndPattern],
) -> optax.GradientTransformationExtraArgs:
  """GraNet: gradual pruning in which each time more goes than has to, and grows by gradients.

  On each change the smallest weights go until the schedule's number is left, and a fraction
  ``drop`` more, for which as many grow where gradients are largest.

  Args:
    inner: the optimizer.
    sparsity: a schedule of the fraction of zeros; ``cubic(0.5, 0.9, begin, end)`` starts from a
      network at random that is half empty, as in the paper's sparse-to-sparse training, and
      ``cubic(0.0, ...)`` from a dense one.
    every: the number of calls between changes of masks.
    key: a typed random key, for the first masks.
    end: the last call on which masks change; by default none.
    drop: the fraction of a leaf's weights that are replaced, or a schedule of it; .5 in the paper.
    distribution: as for :func:`jprune.prune`; by default :func:`~jprune.distributions.erk`, and
      :func:`~jprune.distributions.uniform` for patterns that prune all leaves alike. In the paper
      all weights compete: :func:`~jprune.distributions.global_`.
    **settings: as for :func:`sparse_training`.

  Returns:
    As :func:`sparse_training`.

  Raises:
    ValueError: as :func:`sparse_training`; if ``drop`` is outside [0, 1].
    TypeError: as :func:`sparse_training`.

  Examples:
    >>> schedule = jprune.schedules.cubic(0.5, 0.75, begin=0, end=30)
    >>> tx = granet(optax.sgd(0.1), schedule, every=10, key=jax.random.key(0))
    >>> params = {'kernel': jnp.ones((4, 4))}
    >>> state = tx.init(params)
    >>> for _ in range(31):
    ...   _, state = tx.update(params, state, params)
    >>> int(jprune.transforms.masks_of(state)['kernel'].sum())
    4

  References:
    Liu et al., Sparse training via boosting pruning plasticity with neuroregeneration, NeurIPS
    2021, arXiv:2106.10404
  """
  method = regrowing('granet', drop, magnitude, gradient)
  settings = settled('granet', settings, distribution, distributions.erk)
  return sparse_training(method, inner, sparsity, every=every, end=end, key=key, **settings)


@names_first
def mest(
  inner: optax.GradientTransformation,
  sparsity: float | Schedule,
  *,
  every: int,
  key: jax.Array,
  end: int | None = None,
  drop: float | Schedule = 0.3,
  weight: float = 1.0,
  distribution: Distribution | None = None,
  **settings: Unpack[SettingsAndPattern],
) -> optax.GradientTransformationExtraArgs:
  r"""MEST: weights with small magnitude and gradient are dropped, and as many grow at random.

  .. math:: s_i = |w_i| + \lambda |\partial L / \partial w_i|

  Its elastic variants are a schedule that ends in the sparsity, ``linear(0.8, 0.9, 0, end)``, and
  a falling ``drop``.

  Args:
    inner: the optimizer.
    sparsity: the fraction of zeros, or a schedule of it; the first masks are at random.
    every: the number of calls between changes of masks.
    key: a typed random key.
    end: the last call on which masks change; by default none.
    drop: the fraction of a leaf's weights that are replaced, or a schedule of it.
    weight: :math:`\lambda` of the gradient, at least 0.
    distribution: as for :func:`jprune.prune`; by default :func:`~jprune.distributions.erk`, and
      :func:`~jprune.distributions.uniform` for patterns that prune all leaves alike.
    **settings: as for :func:`sparse_training`.

  Returns:
    As :func:`sparse_training`. What is dropped may grow again at once.

  Raises:
    ValueError: as :func:`sparse_training`; if ``drop`` is outside [0, 1], ``weight`` below 0.
    TypeError: as :func:`sparse_training`.

  Examples:
    >>> schedule = jprune.schedules.linear(0.5, 0.75, begin=0, end=20)
    >>> tx = mest(optax.sgd(0.1), schedule, every=10, end=80, key=jax.random.key(0))
    >>> params = {'kernel': jnp.ones((4, 4))}
    >>> int(jprune.transforms.masks_of(tx.init(params))['kernel'].sum())
    8

  References:
    Yuan et al., MEST: accurate and fast memory-economic sparse training framework on the edge,
    NeurIPS 2021, arXiv:2110.14032
  """
  weight = _checks.non_negative_number('mest', 'weight', weight)
  method = regrowing('mest', drop, functools.partial(both, weight), chances)
  settings = settled('mest', settings, distribution, distributions.erk)
  return sparse_training(method, inner, sparsity, every=every, end=end, key=key, **settings)
