"""Parts of networks that work on the channels as they are: norms of all of them, moves, reductions.

``p(name, *shape)`` is a param; ``n`` a whole number that says how large the part is.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tests.shrink._layers import linear

PARTS = {}


def part(fn):
  PARTS[fn.__name__] = fn
  return fn


# ---------------------------------------------------------------------------- over the channels


@part
def softmax(p, x, n):
  return x * jax.nn.softmax(x, -1)


@part
def log_softmax(p, x, n):
  return jax.nn.log_softmax(x, -1)


@part
def less_the_largest(p, x, n):
  return x - x.max(-1, keepdims=True)


@part
def less_the_smallest(p, x, n):
  return jnp.square(x) - jnp.exp(x).min(-1, keepdims=True)


@part
def times_the_mean(p, x, n):
  return x * (1 + x.mean(-1, keepdims=True))


@part
def times_the_mean_exponential(p, x, n):
  return x / jnp.exp(0.1 * x).mean(-1, keepdims=True)


@part
def squeeze_excite(p, x, n):
  gate = jax.nn.relu(linear(p, x.mean(1), n, 'squeeze'))
  return x * jax.nn.sigmoid(linear(p, gate, x.shape[-1], 'excite'))[:, None]


@part
def pairwise(p, x, n):
  return x * jnp.einsum('btc,btd,dc->btc', x, x, p('w', x.shape[-1], x.shape[-1])) * 0.1


# ------------------------------------------------------------------------------- moving channels


@part
def flipped(p, x, n):
  return x[..., ::-1]


@part
def added_flip(p, x, n):
  return x + jnp.flip(jnp.tanh(x), -1)


@part
def permuted(p, x, n):
  return x[..., np.random.default_rng(n).permutation(x.shape[-1])]


@part
def added_permutation(p, x, n):
  return x * jnp.take(x, np.random.default_rng(n).permutation(x.shape[-1]), axis=-1)


@part
def some_channels(p, x, n):
  return x[..., np.random.default_rng(n).integers(0, x.shape[-1], n + 2)]


@part
def rolled(p, x, n):
  return x + jnp.roll(x, n, -1)


@part
def padded(p, x, n):
  return jnp.pad(x, ((0, 0), (0, 0), (n, 2)), constant_values=float(n % 2))


@part
def cropped(p, x, n):
  return x[..., min(n, x.shape[-1] - 2) :]


@part
def strided(p, x, n):
  return x[..., :: 1 + n % 2]


@part
def repeated(p, x, n):
  return jnp.repeat(x, 1 + n % 2, -1)


@part
def tiled(p, x, n):
  return jnp.tile(x, (1, 1, 1 + n % 2))


@part
def shuffled(p, x, n):
  if x.shape[-1] % 2:
    return x
  return x.reshape(*x.shape[:-1], 2, -1).swapaxes(-1, -2).reshape(x.shape)


@part
def written_over(p, x, n):
  low = min(n, x.shape[-1] - 2)
  return x.at[..., low : low + 2].multiply(0.5 + n)


@part
def maxout(p, x, n):
  return linear(p, x, 2 * n + 2).reshape(*x.shape[:-1], -1, 2).max(-1)


@part
def outer(p, x, n):
  y = x[..., :, None] * p('w', x.shape[-1], 2)[None, None]
  return y.reshape(*x.shape[:-1], -1)
