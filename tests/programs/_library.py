"""Functions that programs call, some with derivative rules of their own, right and wrong ones."""

import jax
import jax.numpy as jnp
from jax import lax


def with_jvp(fn, rule):
  """``fn`` with the derivative ``rule(itself, primals, tangents)``."""
  own = jax.custom_jvp(fn)
  own.defjvp(lambda primals, tangents: rule(own, primals, tangents))
  return own


def with_vjp(fn, forward, backward):
  """``fn`` with ``forward(itself, x)``, which also returns what ``backward`` needs."""
  own = jax.custom_vjp(fn)
  own.defvjp(lambda x: forward(own, x), backward)
  return own


@jax.custom_vjp
def straight(x):
  """Rounds; the derivative is that of nothing done."""
  return jnp.round(4 * x) / 4


straight.defvjp(lambda x: (straight(x), None), lambda _, ct: (ct,))


@jax.custom_vjp
def reversed_gradient(x):
  return x


reversed_gradient.defvjp(lambda x: (x, None), lambda _, ct: (-0.5 * ct,))


@jax.custom_vjp
def clipped_gradient(x):
  return jnp.sin(x)


clipped_gradient.defvjp(
  lambda x: (clipped_gradient(x), x), lambda x, ct: (jnp.clip(ct * jnp.cos(x), -0.1, 0.1),)
)


@jax.custom_vjp
def normed_gradient(x):
  """The backward pass mixes along the last axis."""
  return x


normed_gradient.defvjp(
  lambda x: (x, x),
  lambda x, ct: (ct / (1 + jnp.abs(ct).sum(-1, keepdims=True)) + 0.1 * jnp.cos(x),),
)


@jax.custom_jvp
def own(x):
  return jnp.tanh(x)


@own.defjvp
def _(primals, tangents):
  return own(primals[0]), (2 * own(primals[0]) + 1) * tangents[0]


@jax.custom_jvp
def scaled(x, scale):
  return x * scale


@scaled.defjvp
def _(primals, tangents):
  x, scale = primals
  return scaled(x, scale), 3 * tangents[0] * scale + jnp.cos(x) * tangents[1]


@jax.custom_jvp
def mixed(x):
  return jnp.sin(x)


@mixed.defjvp
def _(primals, tangents):
  return mixed(*primals), tangents[0] + tangents[0].mean(-1, keepdims=True)


@jax.custom_vjp
def shifted(x):
  """A residual that isn't zero where the value is."""
  return x * x


shifted.defvjp(lambda x: (x * x, jnp.exp(x)), lambda kept, ct: (ct * kept + 0.3,))


def layer_norm(x, axis=-1, eps=1e-3):
  return (x - x.mean(axis, keepdims=True)) * lax.rsqrt(x.var(axis, keepdims=True) + eps)


def rms_norm(x, axis=-1):
  return x * lax.rsqrt(jnp.square(x).mean(axis, keepdims=True) + 1e-3)


def group_norm(x, groups):
  return layer_norm(x.reshape(*x.shape[:-1], groups, -1)).reshape(x.shape)


def attention(q, k, v, heads, masked=False):
  """Over ``[..., time, channels]``."""
  apart = lambda z: z.reshape(*z.shape[:-1], heads, -1)
  logits = jnp.einsum('...qhd,...khd->...hqk', apart(q), apart(k)) / q.shape[-1] ** 0.5
  if masked:
    logits = jnp.where(jnp.tril(jnp.ones(logits.shape[-2:], bool)), logits, -jnp.inf)
  out = jnp.einsum('...hqk,...khd->...qhd', jax.nn.softmax(logits), apart(v))
  return out.reshape(*out.shape[:-2], -1)


def rotary(x):
  """Positions along the second to last axis."""
  half = x.shape[-1] // 2
  angle = jnp.arange(x.shape[-2])[:, None] * jnp.exp(-jnp.arange(half) / half)
  a, b = x[..., :half], x[..., half:]
  return jnp.concatenate(
    [a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle)], -1
  )


def conv(x, kernel, stride=1, padding='SAME', groups=1, dilation=1, lhs=1):
  """Over ``[batch, time, channels]``."""
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride,),
    padding,
    lhs_dilation=(lhs,),
    rhs_dilation=(dilation,),
    dimension_numbers=('NWC', 'WIO', 'NWC'),
    feature_group_count=groups,
  )


def quantised(x, scale=8.0):
  """Through integers and back."""
  return jnp.clip(jnp.round(x * scale), -127, 127).astype(jnp.int8).astype(x.dtype) / scale
