"""Transformers and their kin: class tokens, experts, tied tables, mixers."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from tests.zoo._case import (
  CONV,
  DENSE,
  HEAD,
  Leaf,
  conv,
  head,
  images,
  linen,
  registry,
  sequences,
  tokens,
  vectors,
)

CASES, case = registry()


def mlp(x, hidden=10, **options):
  y = nn.gelu(nn.Dense(hidden, name='up', **options)(x))
  return nn.Dense(x.shape[-1], name='down', **options)(y)


@case(
  (
    ('stem/kernel', 3),
    ('(cls|position)/leaf', 2),
    (r'norm_\d/(scale|bias)', 0),
    *(('(query|key|value|out)/kernel', axis) for axis in range(3)),
    ('(up|down|head)/kernel', 0),
    ('(up|down)/kernel', 1),
  ),
  (*CONV, ('position/leaf', 1)),
)
def vit():
  def net(x):
    x = conv(8, 4, strides=4, padding='VALID', name='stem')(x)
    b, h, w, c = x.shape
    cls = jnp.broadcast_to(Leaf((1, 1, c), name='cls')(), (b, 1, c))
    x = jnp.concatenate([cls, x.reshape(b, h * w, c)], axis=1)
    x = x + Leaf((1, h * w + 1, c), name='position')()
    attention = nn.MultiHeadDotProductAttention(2, qkv_features=12, name='attention')
    x = x + attention(nn.LayerNorm(name='norm_0')(x))
    x = x + mlp(nn.LayerNorm(name='norm_1')(x))
    return nn.Dense(5, name='head')(nn.LayerNorm(name='norm_2')(x)[:, 0])

  return linen(net, images(8))


# ------------------------------------------------------------------------------------- experts

EXPERT = (
  ('stem/kernel', 1),
  ('up/leaf', 1),
  ('up/leaf', 2),
  ('down/leaf', 1),
  ('down/leaf', 2),
  ('gate/kernel', 0),
  ('head/kernel', 0),
)


def experts():
  """Weights ``[expert, in, hidden]`` and ``[expert, hidden, out]``."""
  return Leaf((4, 6, 10), name='up')(), Leaf((4, 10, 7), name='down')()


# A pruned expert adds nothing; the softmax still gives it its share, exp(0).
@case((*EXPERT, ('(up|down)/leaf', 0), ('gate/kernel', 1)), DENSE)
def experts_soft():
  def net(x):
    x = nn.relu(nn.Dense(6, name='stem')(x))
    up, down = experts()
    gate = nn.softmax(nn.Dense(4, name='gate')(x))
    y = nn.relu(jnp.einsum('bi,eih->beh', x, up))
    y = jnp.einsum('beh,eho,be->bo', y, down, gate)
    return nn.Dense(5, name='head')(y)

  return linen(net, vectors())


@case(EXPERT, (*DENSE, ('(up|down)/leaf', 0), ('gate/kernel', 1)))
def experts_top_2():
  def net(x):
    x = nn.relu(nn.Dense(6, name='stem')(x))
    up, down = experts()
    gate, chosen = jax.lax.top_k(nn.Dense(4, name='gate')(x), 2)
    y = nn.relu(jnp.einsum('bi,bkih->bkh', x, up[chosen]))
    y = jnp.einsum('bkh,bkho,bk->bo', y, down[chosen], nn.softmax(gate))
    return nn.Dense(5, name='head')(y)

  return linen(net, vectors())


# Here the place of an expert in the stack is compared with the number that the gate chose.
@case(EXPERT, (*DENSE, ('gate/kernel', 1)))
def experts_one_hot():
  def net(x):
    x = nn.relu(nn.Dense(6, name='stem')(x))
    up, down = experts()
    gate, chosen = jax.lax.top_k(nn.Dense(4, name='gate')(x), 2)
    share = nn.softmax(gate)[..., None] * jax.nn.one_hot(chosen, 4, dtype=x.dtype)
    y = nn.relu(jnp.einsum('bi,eih->beh', x, up))
    y = jnp.einsum('beh,eho,bke->bo', y, down, share)
    return nn.Dense(5, name='head')(y)

  return linen(net, vectors())


# -------------------------------------------------------------------------------------- tables


@case(
  (('embed/embedding', 1), ('norm/scale', 0), ('(up|down)/kernel', 0), ('(up|down)/kernel', 1)),
  (('embed/embedding', 0),),
)
def tied_embeddings():
  def net(ids):
    table = nn.Embed(11, 8, name='embed')
    x = table(ids)
    x = x + mlp(nn.RMSNorm(name='norm')(x))
    return table.attend(x)

  return linen(net, tokens())


@case((('embed/embedding', 1), ('head/kernel', 0)), (('embed/embedding', 0), *HEAD))
def embedding_mean():
  return linen(lambda ids: head(nn.Embed(11, 8, name='embed')(ids)), tokens())


# -------------------------------------------------------------------------------------- mixers


HIDDEN = (('token_up/kernel', 1), ('token_down/kernel', 0), ('/up/kernel', 1), ('/down/kernel', 0))
PATCHES = (*DENSE, ('token_up/kernel', 0), ('token_down/kernel', 1))
STREAM = (
  ('stem/kernel', 1),
  (r'norm_\d/(scale|bias)', 0),
  ('/up/kernel', 0),
  ('/down/kernel', 1),
  ('head/kernel', 0),
)


@case((*HIDDEN, *STREAM), PATCHES, name='mixer_unbiased', biased=False)
# With biases along the patches, pruned channels of the stream become alike, but not zero.
@case((*HIDDEN, *STREAM), PATCHES, name='mixer', biased=True)
def mixer(biased):
  """Layers along the patches, then along the channels."""

  def net(x):
    x = nn.Dense(8, name='stem')(x)
    y = nn.LayerNorm(name='norm_0')(x).swapaxes(1, 2)
    y = nn.gelu(nn.Dense(6, use_bias=biased, name='token_up')(y))
    y = nn.Dense(x.shape[1], use_bias=biased, name='token_down')(y)
    x = x + y.swapaxes(1, 2)
    x = x + mlp(nn.LayerNorm(name='norm_1')(x))
    return head(x)

  return linen(net, sequences())
