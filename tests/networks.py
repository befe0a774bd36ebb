"""Published networks, written by hand in Flax linen and held as shapes.

Each function returns a :class:`Network`: a pure function for inference, the shapes of its variables
and of its arguments. At full size nothing is ever initialised; ``filled`` makes values for the
shapes of small ones. Widths are arguments, so that a network with fewer channels, which pruning
should arrive at, can be written down as well.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

Stages = Sequence[Sequence[Sequence[int]]]


class Network(NamedTuple):
  """``fn(variables, *args)``, and the shapes of what it takes."""

  fn: Callable[..., jax.Array]
  variables: dict[str, Any]
  args: tuple[jax.ShapeDtypeStruct, ...]


def network(model: nn.Module, *args: jax.ShapeDtypeStruct) -> Network:
  return Network(model.apply, jax.eval_shape(model.init, jax.random.key(0), *args), args)


def image(batch: int, size: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)


def filled(structs: Any, seed: int = 0) -> Any:
  """NumPy arrays for floating shapes, scaled so that activations neither vanish nor overflow."""
  rng = np.random.default_rng(seed)

  def fill(path, leaf):
    if path[-1].key in ('scale', 'var'):
      values = rng.uniform(0.5, 1.5, leaf.shape)
    else:
      scale = (2 / math.prod(leaf.shape[:-1])) ** 0.5 if path[-1].key == 'kernel' else 0.1
      values = scale * rng.standard_normal(leaf.shape, np.float32)
    return values.astype(leaf.dtype)

  return jax.tree_util.tree_map_with_path(fill, structs)


# ------------------------------------------------------------------------------------- ResNet


def conv_norm(x, channels, kernel, stride=1):
  """Convolution without bias and BatchNorm, padded as in PyTorch; named in the calling module."""
  padding = [(kernel // 2, kernel // 2)] * 2
  x = nn.Conv(channels, (kernel, kernel), (stride, stride), padding, use_bias=False)(x)
  return nn.BatchNorm(use_running_average=True)(x)


class ResidualBlock(nn.Module):
  """Two convolutions (3, 3), or three (1, 3, 1); the stride is in the first 3x3 one (v1.5)."""

  channels: Sequence[int]
  stride: int
  project: bool

  @nn.compact
  def __call__(self, x):
    kernels = (3, 3) if len(self.channels) == 2 else (1, 3, 1)
    y = x
    for index, (channels, kernel) in enumerate(zip(self.channels, kernels, strict=True)):
      y = nn.relu(y) if index else y
      y = conv_norm(y, channels, kernel, self.stride if index == kernels.index(3) else 1)
    if self.project:
      x = conv_norm(x, self.channels[-1], 1, self.stride)
    return nn.relu(x + y)


class ResNet(nn.Module):
  """Residual stages; all but the first halve the image."""

  stem: int
  stages: Stages
  num_classes: int
  small_images: bool

  @nn.compact
  def __call__(self, x):
    if self.small_images:
      x = nn.relu(conv_norm(x, self.stem, 3))
    else:
      x = nn.relu(conv_norm(x, self.stem, 7, 2))
      x = nn.max_pool(x, (3, 3), (2, 2), [(1, 1), (1, 1)])
    for stage, blocks in enumerate(self.stages):
      for index, channels in enumerate(blocks):
        project = index == 0 and (stage > 0 or len(channels) == 3)
        x = ResidualBlock(channels, 2 if stage and not index else 1, project)(x)
    return nn.Dense(self.num_classes)(jnp.mean(x, (1, 2)))


def resnet(
  stem: int, stages: Stages, num_classes: int, size: int, batch: int = 1, small_images: bool = False
) -> Network:
  """A ResNet with any number of channels.

  Args:
    stem: channels of the first convolution.
    stages: for each stage, for each block: channels of its two or three convolutions. The last one
      is the same in all blocks of a stage, and the stem's in the first stage of two-layer blocks.
    num_classes: outputs.
    size: of the images, pixels a side.
    batch: number of images.
    small_images: a 3x3 stem without pooling, as for CIFAR.

  Returns:
    Network: its function takes the variables and images, (batch, size, size, 3).
  """
  return network(ResNet(stem, stages, num_classes, small_images), image(batch, size))


def basic_stages(width: int, blocks: Sequence[int]) -> Stages:
  """Channels of two-layer blocks, doubled from stage to stage."""
  return tuple(((width << stage,) * 2,) * count for stage, count in enumerate(blocks))


def resnet18(num_classes: int = 1000, width: int = 64, size: int = 224, batch: int = 1) -> Network:
  """ResNet-18 (He et al., 2016, arXiv:1512.03385)."""
  return resnet(width, basic_stages(width, (2, 2, 2, 2)), num_classes, size, batch)


def resnet50(num_classes: int = 1000, width: int = 64, size: int = 224, batch: int = 1) -> Network:
  """ResNet-50, with the stride in the 3x3 convolutions (v1.5)."""
  stages = tuple(
    ((width << stage, width << stage, width << stage + 2),) * count
    for stage, count in enumerate((3, 4, 6, 3))
  )
  return resnet(width, stages, num_classes, size, batch)


def resnet56(
  num_classes: int = 10, width: int = 16, size: int = 32, batch: int = 1, blocks: int = 9
) -> Network:
  """ResNet-56 for CIFAR, with projections (1x1 convolution, BatchNorm) where stages meet."""
  return resnet(width, basic_stages(width, (blocks,) * 3), num_classes, size, batch, True)


# ---------------------------------------------------------------------------------------- ViT


class EncoderBlock(nn.Module):
  """Pre-norm attention and MLP; queries, keys, values in one Dense (``fused``) or in three."""

  heads: int
  head_dim: int
  mlp: int
  fused: bool

  @nn.compact
  def __call__(self, x):
    x += self.attend(nn.LayerNorm(1e-6, name='norm_0')(x))
    y = nn.Dense(self.mlp, name='up')(nn.LayerNorm(1e-6, name='norm_1')(x))
    return x + nn.Dense(x.shape[-1], name='down')(nn.gelu(y, approximate=False))

  def attend(self, x):
    inner = self.heads * self.head_dim
    if self.fused:
      parts = jnp.split(nn.Dense(3 * inner, name='qkv')(x), 3, axis=-1)
    else:
      parts = [nn.Dense(inner, name=name)(x) for name in ('query', 'key', 'value')]
    heads = (*x.shape[:2], self.heads, self.head_dim)
    query, key, value = (part.reshape(heads) for part in parts)
    logits = jnp.einsum('bthd,bshd->bhts', query, key) / self.head_dim**0.5
    mixed = jnp.einsum('bhts,bshd->bthd', nn.softmax(logits), value)
    return nn.Dense(x.shape[-1], name='out')(mixed.reshape(*x.shape[:2], inner))


class ViT(nn.Module):
  num_classes: int
  layers: int
  hidden: int
  patch: int
  block: dict[str, int]

  @nn.compact
  def __call__(self, x):
    patch = (self.patch, self.patch)
    x = nn.Conv(self.hidden, patch, patch, 'VALID', name='patches')(x)
    x = x.reshape(x.shape[0], -1, self.hidden)
    token = self.param('class_token', nn.initializers.zeros, (1, 1, self.hidden))
    x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, self.hidden)), x], axis=1)
    x += self.param('position', nn.initializers.normal(0.02), (1, *x.shape[1:]))
    for index in range(self.layers):
      x = EncoderBlock(**self.block, name=f'block_{index}')(x)
    x = nn.LayerNorm(1e-6, name='norm')(x)
    return nn.Dense(self.num_classes, name='head')(x[:, 0])


def vit(
  num_classes: int = 1000,
  layers: int = 12,
  hidden: int = 768,
  heads: int = 12,
  mlp: int = 3072,
  size: int = 224,
  patch: int = 16,
  batch: int = 1,
  head_dim: int | None = None,
  fused: bool = False,
) -> Network:
  """ViT-B/16 (Dosovitskiy et al., 2021, arXiv:2010.11929): class token, learned positions."""
  block = {'heads': heads, 'head_dim': head_dim or hidden // heads, 'mlp': mlp, 'fused': fused}
  return network(ViT(num_classes, layers, hidden, patch, block), image(batch, size))


# -------------------------------------------------------------------------------------- Llama


class RMSNorm(nn.Module):
  @nn.compact
  def __call__(self, x):
    scale = self.param('scale', nn.initializers.ones, (x.shape[-1],), x.dtype)
    wide = x.astype(jnp.float32)
    wide *= jax.lax.rsqrt(jnp.mean(wide**2, axis=-1, keepdims=True) + 1e-5)
    return wide.astype(x.dtype) * scale[None, None]


def rotation(length: int, head_dim: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
  """Cosines and sines of rotary positions, (1, length, 1, head_dim / 2), without rescaling."""
  frequency = 500_000.0 ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
  angle = jnp.outer(jnp.arange(length, dtype=jnp.float32), frequency)[None, :, None]
  return jnp.cos(angle).astype(dtype), jnp.sin(angle).astype(dtype)


def rotate(x, cos, sin):
  first, second = jnp.split(x, 2, axis=-1)
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


class DecoderBlock(nn.Module):
  """Causal attention, in which groups of queries share a key and a value, and SwiGLU."""

  heads: int
  kv_heads: int
  head_dim: int
  mlp: int

  @nn.compact
  def __call__(self, x, turn):
    x += self.attend(RMSNorm(name='norm_0')(x), turn)
    y = RMSNorm(name='norm_1')(x)
    y = nn.silu(self.dense(self.mlp, 'gate', y)) * self.dense(self.mlp, 'up', y)
    return x + self.dense(x.shape[-1], 'down', y), None

  def dense(self, features, name, x):
    return nn.Dense(features, False, x.dtype, x.dtype, name=name)(x)

  def attend(self, x, turn):
    batch, length, hidden = x.shape
    names = {'query': self.heads, 'key': self.kv_heads, 'value': self.kv_heads}
    query, key, value = (
      self.dense(count * self.head_dim, name, x).reshape(batch, length, count, self.head_dim)
      for name, count in names.items()
    )
    query, key = rotate(query, *turn), rotate(key, *turn)
    query = query.reshape(batch, length, self.kv_heads, -1, self.head_dim)
    logits = jnp.einsum('btkgd,bskd->bkgts', query, key) / self.head_dim**0.5
    causal = jnp.tril(jnp.ones((length, length), bool))[None, None, None]
    logits = jnp.where(causal, logits.astype(jnp.float32), -jnp.inf)
    weights = nn.softmax(logits).astype(x.dtype)
    mixed = jnp.einsum('bkgts,bskd->btkgd', weights, value)
    return self.dense(hidden, 'out', mixed.reshape(batch, length, -1))


class Llama(nn.Module):
  layers: int
  hidden: int
  block: dict[str, int]
  vocab: int
  dtype: Any
  scan: bool

  @nn.compact
  def __call__(self, tokens):
    embed = nn.Embed(self.vocab, self.hidden, self.dtype, self.dtype, name='embed')
    x, turn = embed(tokens), rotation(tokens.shape[1], self.block['head_dim'], self.dtype)
    if self.scan:
      scanned = nn.scan(
        nn.remat(DecoderBlock, prevent_cse=False),
        variable_axes={'params': 0},
        split_rngs={'params': True},
        in_axes=nn.broadcast,
        length=self.layers,
      )
      x, _ = scanned(**self.block, name='blocks')(x, turn)
    else:
      for index in range(self.layers):
        x, _ = DecoderBlock(**self.block, name=f'block_{index}')(x, turn)
    x = RMSNorm(name='norm')(x)
    return nn.Dense(self.vocab, False, self.dtype, self.dtype, name='head')(x)


def llama(
  layers: int = 32,
  hidden: int = 4096,
  heads: int = 32,
  kv_heads: int = 8,
  head_dim: int = 128,
  mlp: int = 14336,
  vocab: int = 128256,
  length: int = 128,
  batch: int = 1,
  dtype: Any = jnp.bfloat16,
  scan: bool = False,
) -> Network:
  """A decoder in the shape of Llama-3.1-8B (arXiv:2407.21783), tokens (batch, length) to logits.

  With ``scan``, one rematerialised block runs over the layers, whose params are stacked along
  axis 0; without, the layers stand one after the other.
  """
  block = {'heads': heads, 'kv_heads': kv_heads, 'head_dim': head_dim, 'mlp': mlp}
  model = Llama(layers, hidden, block, vocab, dtype, scan)
  return network(model, jax.ShapeDtypeStruct((batch, length), jnp.int32))
