"""First-order Taylor expansion: what the loss would change without a weight."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jprune import _checks, tree
from jprune._entry import public
from jprune.scores import _errors
from jprune.tree._along import along_for
from jprune.typing import Params, Scores


@public
def taylor(params: Params, grads: Params) -> Scores:
  r"""How much the loss changes, to first order, when a weight is removed.

  .. math:: s_i = |\theta_i \, g_i|, \qquad g_i = \partial L / \partial \theta_i

  Of a complex weight, as of its two parts together: :math:`|\mathrm{Re}(\theta_i g_i)|` with the
  gradient of JAX, which is :math:`\partial L / \partial x - i \, \partial L / \partial y` at
  :math:`\theta = x + i y`. The conjugate of it, along which optimizers go, would give other scores.

  The paper squares it, which changes nothing about the order of weights; the absolute value is
  what adds up over the weights of a channel.

  Args:
    params: tree of arrays.
    grads: gradients of the loss, of the structure and shapes of ``params``: of one batch, or their
      mean over several. Where one is ``None`` the leaf has no score.

  Returns:
    Scores, float32, structure and shapes of ``params``; ``None`` for leaves that are neither
    floating nor complex arrays.

  Raises:
    ValueError: if there is no leaf, or structures or shapes differ.
    TypeError: if the gradient of a floating leaf isn't a floating array, or of a complex one a
      complex one, or a leaf is a shape struct.

  Examples:
    >>> params = {'w': jnp.array([1.0, -2.0])}
    >>> grads = jax.grad(lambda p: jnp.sum(p['w'] ** 2))(params)
    >>> taylor(params, grads)['w']
    Array([2., 8.], dtype=float32)

  References:
    Molchanov et al., Importance estimation for neural network pruning, CVPR 2019,
    arXiv:1906.10771
  """
  paths, leaves, treedef = tree.flatten(params)
  if not leaves:
    raise _checks.empty_tree('taylor')
  given = along_for('taylor', 'grads', params, grads)
  out: list[jax.Array | None] = []
  for path, leaf, grad in zip(paths, leaves, given, strict=True):
    if not tree.is_inexact(leaf) or grad is None:
      out.append(None)
      continue
    _checks.check_values('taylor', path, leaf)
    _errors.check_gradient('taylor', path, leaf, grad)
    _checks.check_values('taylor', path, grad, 'grads')
    _checks.check_shape('taylor', 'grads', path, grad, leaf.shape)
    out.append(_product(jnp.asarray(leaf), jnp.asarray(grad)))
  return treedef.unflatten(out)


@jax.jit
def _product(leaf: jax.Array, grad: jax.Array) -> jax.Array:
  if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
    return jnp.abs(jnp.real(leaf.astype(jnp.complex64) * grad.astype(jnp.complex64)))
  return jnp.abs(leaf.astype(jnp.float32) * grad.astype(jnp.float32))
