"""Regularisers towards structure: what training makes small as a whole, can be pruned as a whole.

Each adds the gradient of a penalty to the updates, so it stands in a chain before the optimizer,
which then moves along both. Weight decay that the optimizer has of its own (``adamw``) is decoupled
from that; where it is a link of the chain, either order is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jprune import _checks, tree
from jprune.graph import ChannelGraph
from jprune.masks import ChannelGroups
from jprune.masks._auto import following
from jprune.masks._channels import units as _units
from jprune.masks._pack import unpack_leaf
from jprune.transforms import _errors
from jprune.transforms._mask_state import held_masks, is_end, is_hole, laid_out_as
from jprune.transforms._method import single
from jprune.transforms._penalty import Penalty, Strength, added, members, penalized
from jprune.transforms._transformation import transformation
from jprune.tree import _names
from jprune.tree._selected import matching_for
from jprune.typing import ByPath, Masks, Params, Where

_SCALES = ('scale', 'gamma', 'gain', 'weight', 'w', 'g')


class GrowingState(NamedTuple):
  """State of :func:`growing`.

  Attributes:
    count: calls of ``update`` so far, int32.
    keep: copy of the masks: ``False`` where the penalty pulls.

  Examples:
    >>> tx = growing({'kernel': jnp.array([[True, False]])})
    >>> tx.init({'kernel': jnp.ones((1, 2))}).keep
    {'kernel': Array([[ True, False]], dtype=bool)}
  """

  # A field hides tuple.count, as in optax's own states.
  count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
  keep: Masks


def group_lasso(
  strength: Strength, graph: ChannelGraph, *, where: Where = None
) -> optax.GradientTransformationExtraArgs:
  r"""Pulls units of channel groups to zero as wholes: a sum of norms that are not squared.

  .. math:: \lambda \sum_{\text{units } u} \sqrt{p_u}\, \|\theta_u\|_2

  with :math:`\theta_u` all :math:`p_u` weights of a unit, over all leaves that it has slices of: a
  kernel's outputs, its bias, a norm's scale, the next kernel's inputs. A weight between two
  channels belongs to both. Its gradient, :math:`\lambda \sqrt{p_u}\, \theta / \|\theta_u\|`,
  doesn't fade as the unit does, so that units which the loss doesn't need end near zero, within
  about a step of the optimizer, and the others stay. ``jprune.masks.channels(scores, graph, ...)``
  then prunes them.

  Args:
    strength: :math:`\lambda`, at least 0; or a function of the count.
    graph: what :func:`jprune.graph.channels` found, of a function of the params, or of variables
      with these params under one key. ``graph.keeping('head')`` leaves groups out.
    where: which leaves count in a unit, and are pulled: a regular expression on all paths or
      another filter. By default all members but state, such as running statistics.

  Returns:
    A transformation of gradients.

  Raises:
    ValueError: if the strength is negative, or without ``params``; if ``where`` names no leaf of
      a group.
    TypeError: if the strength is no number, or the graph none.

  Examples:
    >>> fn = lambda p, x: jax.nn.relu(x @ p['in']) @ p['out']
    >>> params = {'in': jnp.array([[3.0, 0.0], [0.0, 0.1]]), 'out': jnp.array([[4.0], [0.0]])}
    >>> graph = jprune.graph.channels(fn, params, jnp.ones((1, 2)))
    >>> tx = optax.chain(group_lasso(1 / 3**0.5, graph), optax.sgd(1.0))
    >>> updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    >>> updates['in'].round(3)  # 3/5, and 1
    Array([[-0.6, -0. ],
           [-0. , -1. ]], dtype=float32)

  References:
    Yuan & Lin, Model selection and estimation in regression with grouped variables, 2006
    Wen et al., Learning structured sparsity in deep neural networks, NeurIPS 2016, arXiv:1608.03665
  """
  name = 'group_lasso'
  if not all(hasattr(graph, each) for each in ('groups', 'leaves', 'treedef')):
    raise _checks.bad_graph(name, graph)
  if not graph.groups:
    raise _checks.no_groups(name)

  def pulls(params: Params) -> Penalty:
    chosen = members(name, graph, params, where)
    prefix = ChannelGroups(graph).prefix(tree.flatten(params)[0])
    return lambda leaves, rate: _lasso(graph.groups, prefix, {p: leaves[p] for p in chosen}, rate)

  return penalized(name, strength, pulls)


def batch_norm_scale(
  strength: Strength, graph: ChannelGraph | None = None, *, where: Where = None
) -> optax.GradientTransformationExtraArgs:
  r"""Network slimming: an L1 penalty on the scales of norms, which are gates of their channels.

  .. math:: \lambda \sum |\gamma|, \qquad \text{gradient } \lambda \operatorname{sign}(\gamma)

  Channels whose scale has become small do little. To prune them, score by scales alone:
  ``jprune.masks.channels(jprune.scores.magnitude(params), graph, 0.5, where='scale',
  scope='global', normalize=None)``.

  Args:
    strength: :math:`\lambda`, at least 0 (in the paper 1e-4, or 1e-5); or a function of the count.
    graph: what :func:`jprune.graph.channels` found: only scales of channels that can go are pulled.
      Of a function of the params, or of variables with these params under one key.
    where: which leaves are scales: a regular expression on all paths or another filter. By default
      what names tell: ``scale``, ``gamma``, or a norm's ``weight``.

  Returns:
    A transformation of gradients.

  Raises:
    ValueError: if the strength is negative, or without ``params``; if there are no scales.
    TypeError: if the strength is no number, or the graph none.

  Examples:
    >>> params = {'norm': {'scale': jnp.array([0.5, -2.0]), 'bias': jnp.ones(2)}}
    >>> tx = optax.chain(batch_norm_scale(0.1), optax.sgd(1.0))
    >>> updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    >>> updates['norm']
    {'bias': Array([-0., -0.], dtype=float32), 'scale': Array([-0.1,  0.1], dtype=float32)}

  References:
    Liu et al., Learning efficient convolutional networks through network slimming, ICCV 2017,
    arXiv:1708.06519
  """
  name = 'batch_norm_scale'
  if graph is not None and not all(hasattr(graph, each) for each in ('groups', 'leaves')):
    raise _checks.bad_graph(name, graph)

  def pulls(params: Params) -> Penalty:
    chosen = _scales(name, params, where)
    if graph is not None:
      able = set(members(name, graph, params, None))
      chosen = [path for path in chosen if path in able]
    if not chosen:
      raise _errors.no_scales(name, tree.flatten(params)[0])
    return lambda leaves, rate: {p: rate * jnp.sign(single(leaves[p])) for p in chosen}

  return penalized(name, strength, pulls)


def growing(
  masks: Masks, *, delta: float = 1e-4, every: int = 10, ceiling: float = 1.0
) -> optax.GradientTransformationExtraArgs:
  r"""Growing regularisation: a decay of what is to be pruned that grows until nothing is left.

  .. math:: \frac{\lambda_t}{2} \|(1 - m) \odot \theta\|^2, \qquad
    \lambda_t = \min(\delta \lfloor t / K \rfloor, \tau)

  So the network has time to do without the weights, before they are cut off. Afterwards
  ``jprune.apply(params, masks)`` takes away what little there is.

  Args:
    masks: ``False`` for what is to be pruned, along the params: of
      ``jprune.prune(params, 0.5, pattern=jprune.ChannelGroups(graph))`` or
      :func:`jprune.masks.channels`, for whole units, or any others; packed or ``None`` too.
    delta: :math:`\delta`, by which the strength grows, positive.
    every: :math:`K`, after how many calls it does.
    ceiling: :math:`\tau`, the largest strength, positive. Plain gradient descent needs it below 2
      over the learning rate.

  Returns:
    A transformation of gradients, whose state holds a copy of the masks.

  Raises:
    ValueError: if a number is out of range, without ``params``, or if the masks are those of other
      params.
    TypeError: if a number isn't one, or a mask is no mask.

  Examples:
    >>> params = {'kernel': jnp.array([[2.0, -4.0]])}
    >>> masks = {'kernel': jnp.array([[True, False]])}
    >>> tx = optax.chain(growing(masks, delta=0.125, every=2, ceiling=0.1875), optax.sgd(1.0))
    >>> state = tx.init(params)
    >>> for _ in range(6):
    ...   updates, state = tx.update({'kernel': jnp.zeros((1, 2))}, state, params)
    ...   print(abs(float(updates['kernel'][0, 1])))
    0.0
    0.0
    0.5
    0.5
    0.75
    0.75

  References:
    Wang et al., Neural pruning via growing regularization, ICLR 2021, arXiv:2012.09243, GReg-1
  """
  name = 'growing'
  delta = _checks.positive_number(name, 'delta', delta)
  ceiling = _checks.positive_number(name, 'ceiling', ceiling)
  _checks.check_positive_int(name, 'every', every)

  def init(params: Params) -> GrowingState:
    return GrowingState(jnp.zeros((), jnp.int32), held_masks(name, params, masks))

  def update(
    updates: Any, state: GrowingState, params: Params = None, **extra_args: Any
  ) -> tuple[Any, GrowingState]:
    del extra_args
    steps = (state.count // every).astype(jnp.float32)
    rate = jnp.minimum(np.float32(delta) * steps, np.float32(ceiling))
    paths, found, _ = tree.flatten(state.keep, is_end)
    real = {p: unpack_leaf(m) for p, m in zip(paths, found) if m is not None and not is_hole(m)}

    def pulls(leaves: ByPath) -> ByPath:
      out = {}
      for path, mask in real.items():
        x = single(leaves[path])
        out[path] = jnp.where(laid_out_as(x, mask), 0, rate.astype(x.dtype) * x)
      return out

    moved = added(name, updates, params, pulls)
    return moved, state._replace(count=state.count + 1)

  return transformation(init, update)


def _scales(function: str, params: Params, where: Where) -> list[str]:
  """The paths of the scales of norms."""
  paths, leaves, _ = tree.flatten(params)
  if where is not None:
    named = matching_for(function, 'where', params, where)
    return [path for path, yes in zip(paths, named) if yes]
  shapes = [tuple(leaf.shape) if tree.is_array(leaf) else None for leaf in leaves]
  kinds = ('a scale', "a norm's vector")
  return [
    path
    for path, leaf, why in zip(paths, leaves, _names.reasons(paths, shapes))
    if why and why.startswith(kinds) and _names.Named.of(path).name in _SCALES
    if tree.is_floating(leaf)
  ]


def _lasso(groups: Sequence[Any], prefix: str, leaves: ByPath, rate: jax.Array) -> ByPath:
  """The gradient of the sum of norms of units, by path."""
  paths = list(leaves)

  def run(xs: list[jax.Array], rate: jax.Array) -> list[jax.Array]:
    held = {prefix + path: single(x) for path, x in zip(paths, xs)}
    taking = [group for group in groups if any(m.path in held for m in group.members)]
    norms = _units.unit_scores('group_lasso', taking, held, 'l2', None, jnp)
    pulls: dict[str, Any] = dict.fromkeys(held, 0)
    for group, norm in zip(taking, norms):
      mine = [member for member in group.members if member.path in held]
      sizes = sum(_units.weights_of(m, held[m.path].shape, group.size) for m in mine)
      pull = rate.astype(norm.dtype) * jnp.asarray(np.sqrt(sizes), norm.dtype)
      pull = jnp.where(norm > 0, pull / jnp.where(norm > 0, norm, 1), 0)
      pull = jnp.append(pull, jnp.zeros(1, pull.dtype))  # where -1 points to
      for member in mine:
        x = held[member.path]
        others = [i for i in range(x.ndim) if i != member.axis]
        line = jnp.expand_dims(pull[member.position.units], others)
        pulls[member.path] += jnp.broadcast_to(line, x.shape).astype(x.dtype)
    return [x * pulls[path] for path, x in held.items()]

  return dict(zip(paths, following(run, [leaves[path] for path in paths], rate)))
