"""What the default selects of the trees of many libraries: names and shapes as they have them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from jprune import tree
from jprune.tree import _names

F32 = jnp.float32


def structs(shapes, dtype=F32):
  """A flat dict of shape structs."""
  return {path: jax.ShapeDtypeStruct(shape, dtype) for path, shape in shapes.items()}


def kernels(params):
  """The paths that the default selects."""
  paths = tree.flatten(params)[0]
  return [path for path, why in zip(paths, tree.skipped(params)) if why is None]


def nest(flat):
  out = {}
  for path, leaf in flat.items():
    *keys, last = path.split('/')
    at = out
    for key in keys:
      at = at.setdefault(key, {})
    at[last] = leaf
  return out


# (kernels, what stays): each leaf has two axes longer than 1, so that only its name can tell
LIBRARIES = {
  'linen': (
    {'params/q/kernel': (16, 4, 8), 'params/out/kernel': (4, 8, 16), 'params/e/embedding': (9, 16)},
    {
      'params/q/bias': (4, 8),
      'params/norm/scale': (3, 16),
      'params/wn/q/kernel/scale': (3, 8),
      'batch_stats/bn/mean': (3, 16),
      'batch_stats/bn/var': (3, 16),
      'cache/attention/cached_key': (2, 9, 4, 8),
      'intermediates/head/__call__/0': (2, 16),
      'params/pos_embed/embedding': (9, 16),
      '_overwrite_with_gradient/q/input_amax_history': (3, 1024),
    },
  ),
  'big_vision': (
    {
      'embedding/kernel': (16, 16, 3, 32),
      'Transformer/encoderblock/MlpBlock_0/Dense_0/kernel': (12, 32, 64),
      'Transformer/encoderblock/MultiHeadDotProductAttention_0/query/kernel': (12, 32, 4, 8),
    },
    {
      'pos_embedding': (1, 196, 32),
      'cls': (2, 1, 32),
      'MAPHead_0/probe': (4, 1, 32),
      'Transformer/encoderblock/LayerNorm_0/scale': (12, 32),
      'Transformer/encoderblock/MlpBlock_0/Dense_0/bias': (12, 64),
      'Transformer/encoderblock/MultiHeadDotProductAttention_0/query/bias': (12, 4, 8),
    },
  ),
  'MaxText': (
    {
      'params/decoder/layers/self_attention/query/kernel': (32, 6, 4, 8),
      'params/decoder/layers/mlp/wi_0/kernel': (32, 6, 64),
      'params/decoder/layers/MoeBlock_0/wi_0': (8, 6, 32, 64),
      'params/token_embedder/embedding': (99, 32),
    },
    {
      'params/decoder/layers/pre_self_attention_layer_norm/scale': (32, 6),
      'params/decoder/layers/mlp/wi_0/bias': (64, 6),
    },
  ),
  'Haiku': (
    {
      'params/conv2_d/w': (3, 3, 3, 8),
      'params/layer_stack/mlp/linear/w': (6, 16, 64),
      'params/gru/w_i': (6, 16, 48),
      'params/gru/w_h': (6, 16, 48),
      'params/embed/embeddings': (99, 16),
    },
    {
      'params/layer_stack/mlp/linear/b': (6, 64),
      'params/gru/b': (6, 48),
      'params/layer_norm/scale': (6, 16),
      'params/layer_norm/offset': (6, 16),
      'params/learned/positional_embeddings': (128, 16),
      'state/batch_norm/~/var_ema/average': (2, 1, 8),
      'state/batch_norm/~/mean_ema/hidden': (2, 1, 8),
    },
  ),
  'Haiku, params and state in a tuple': (
    {'0/linear/w': (4, 8)},
    {'1/batch_norm/~/var_ema/average': (2, 1, 8), '1/vq/~/ema_dw/hidden': (16, 64)},
  ),
  'Hugging Face Flax': (
    {
      'vit/encoder/layer/0/attention/attention/query/kernel': (32, 32),
      'model/layers/self_attn/q_proj/kernel': (12, 32, 32),
      'shared/embedding': (99, 32),
    },
    {
      'vit/embeddings/position_embeddings': (1, 197, 32),
      'vit/embeddings/cls_token': (2, 1, 32),
      'model/layers/input_layernorm/weight': (12, 32),
      'decoder/embed_positions/embedding': (128, 32),
      'encoder/relative_attention_bias/embedding': (32, 8),
      'beit/lambda_1': (12, 32),
      'layernorm_embedding/scale': (12, 32),
    },
  ),
  'safetensors': (
    {
      'model.layers.0.mlp.up_proj.weight': (64, 32),
      'model.embed_tokens.weight': (99, 32),
      'class_embed.weight': (91, 32),
      'transformer.h.0.attn.c_attn.weight': (32, 96),
      'blocks.0.adaLN_modulation.1.weight': (192, 32),
      'blocks.0.norm1.linear.weight': (192, 32),
      'layers.0.self_attention.layernorm_qkv.weight': (96, 32),
      'rnn.weight_ih_l0': (64, 32),
      'encoder.pos_conv_embed.conv.weight_v': (32, 2, 128),
      'backbone.layers.0.mixer.in_proj.weight': (64, 32),
      'experts.gate_up_proj': (4, 32, 64),
    },
    {
      'wpe.weight': (128, 32),
      'visual.positional_embedding': (50, 32),
      'swin.relative_position_bias_table': (169, 4),
      'sam.blocks.0.attn.rel_pos_h': (27, 64),
      'eva.rope.freqs_cos': (577, 64),
      'reg_token': (1, 4, 32),
      'qformer.query_tokens': (1, 32, 768),
      'experts.gate_up_proj_bias': (4, 64),
      'rnn.bias_ih_l0': (2, 64),
      'h.0.attn.bias': (1, 1, 128, 128),
      'backbone.layers.0.mixer.A_log': (64, 16),
      'transformer.scale_shift_table': (6, 32),
      'stacked.ln_1.weight': (12, 32),
      'stacked.norms.0.weight': (12, 32),
      'stacked.bn.running_var': (12, 32),
      'stacked.bn1.weight': (12, 32),
    },
  ),
  'scales of quantised weights': (
    {'l.weight': (32, 16)},
    {
      'l.weight_scale': (32, 4),
      'l.weight_scale_inv': (4, 2),
      'l.weight_scale_2': (4, 2),
      'm.scales': (4, 32),
      'm.zero': (64, 4),
      'm.biases': (32, 4),
      'm.weight.absmax': (8, 4),
      'm.weight_zero_point': (8, 4),
      'm.codebooks': (2, 256, 1, 8),
      'm.weights_scaling_factor': (4, 2),
      'm.wscales': (4, 32),
      'm.scale_weight': (4, 2),
      'kernel/array/scale': (2, 32),
    },
  ),
  'Keras': (
    {'dense/kernel': (8, 4), 'gru/recurrent_kernel': (8, 24), 'embedding/embeddings': (99, 8)},
    {
      'gru/bias': (2, 24),
      'stack/layer_normalization/gamma': (6, 8),
      'stack/layer_normalization/beta': (6, 8),
      'stack/batch_normalization/moving_variance': (6, 8),
      'position_embedding/embeddings': (64, 8),
      'p_re_lu/alpha': (4, 4, 8),
    },
  ),
  'by hand': (
    {
      'lora/a': (16, 4),
      'lora/b': (4, 16),
      'q/w': (16, 4),
      'q/a': (16, 2),
      's5/B': (8, 16),
      's5/C': (16, 8),
      'blocks/mlp/w1': (6, 16, 64),
      'blocks/mlp/w_in': (6, 16, 64),
      'blocks/attn/wq': (6, 16, 16),
      'vae/mean': (16, 4),
      'state/kernel': (16, 4),
      'beside/base': (16, 4),
    },
    {
      'blocks/mlp/b1': (6, 64),
      'blocks/mlp/b_in': (6, 64),
      'blocks/attn/bq': (6, 16),
      'blocks/ln_1/g': (6, 16),
      'blocks/ln_1/b': (6, 16),
      'blocks/attn_norm': (6, 16),
      'flow/g': (6, 16),
      'flow/b': (6, 16),
      'bn/mean': (6, 16),
      'bn/var': (6, 16),
    },
  ),
  'orbax, without a target': (
    {'linear/kernel/value': (8, 4), 'attention/value/kernel/value': (8, 2, 4)},
    {'linear/bias/value': (2, 4), 'norm/scale/value': (6, 4)},
  ),
  'training state': (
    {'params/dense/kernel': (8, 4)},
    {
      'opt_state/0/mu/dense/kernel': (8, 4),
      'ema_params/dense/kernel': (8, 4),
      'model_state/dense/kernel': (8, 4),
    },
  ),
}


@pytest.mark.parametrize('library', LIBRARIES)
def test_kernels_by_name(library):
  wanted, others = LIBRARIES[library]
  params = structs(wanted | others)
  assert set(kernels(params)) == set(kernels(nest(params))) == set(wanted)
  tuples = {tuple(path.split('/')): leaf for path, leaf in params.items()}
  if all(len(keys) > 1 for keys in tuples):  # as flax.traverse_util.flatten_dict has them
    assert set(kernels(tuples)) == {str(tuple(path.split('/'))) for path in wanted}


def test_every_name_of_the_table_has_a_source_and_reads_as_a_phrase():
  for known in _names.TABLE:
    assert known.who
    assert known.what.startswith(('a ', 'an ', 'state'))


# a layer as several people write it; `kernel` leaves are to be pruned however it is stacked
LAYERS = {
  'linen': {
    'up/kernel': (8, 16), 'up/bias': (16,), 'q/kernel': (8, 2, 4), 'q/bias': (2, 4),
    'norm/scale': (8,), 'norm/bias': (8,),
  },
  'haiku': {'mlp/w': (8, 16), 'mlp/b': (16,), 'norm/scale': (8,), 'norm/offset': (8,)},
  'torch': {'fc.weight': (16, 8), 'fc.bias': (16,), 'ln_1.weight': (8,), 'ln_1.bias': (8,)},
  'equinox': {
    'a/weight': (16, 8), 'a/bias': (16,), 'c/weight': (4, 8, 3, 3), 'c/bias': (4, 1, 1),
    'n/weight': (8,), 'n/bias': (8,),
  },
  'by hand': {'w1': (8, 16), 'b1': (16,), 'w2': (16, 8), 'b2': (8,), 'attn_norm': (8,)},
}  # fmt: skip


@pytest.mark.parametrize('name', LAYERS)
@pytest.mark.parametrize('axis', [0, 1, -1])
def test_a_stack_loses_what_its_layers_lose(name, axis):
  layer = LAYERS[name]
  place = lambda shape: range(len(shape) + 1)[axis if axis < 1 else min(axis, len(shape))]
  stacked = {
    path: (*shape[: place(shape)], 3, *shape[place(shape) :]) for path, shape in layer.items()
  }
  assert kernels(structs(stacked)) == kernels(structs(layer)) != []


def test_a_stack_is_known_by_its_norms_and_biases():
  stack = {
    'layers/norm/scale': (3, 8),
    'layers/up/kernel': (3, 8, 16),
    'layers/score/kernel': (3, 8, 1),
    'layers/score/bias': (3, 1),
    'layers/temperatures': (3, 8),
    'head/kernel': (8, 5),
  }
  assert kernels(structs(stack)) == ['head/kernel', 'layers/score/kernel', 'layers/up/kernel']
  why = dict(zip(sorted(stack), tree.skipped(structs(stack))))
  assert why['layers/temperatures'] == 'one axis longer than 1 in each layer of its stack'
  ensemble = {'up/kernel': (3, 8, 16), 'up/bias': (3, 16), 'up/sharpness': (3, 8), 'mix': (3, 8)}
  assert kernels(structs(ensemble)) == ['up/kernel']
  attention = {'q/kernel': (4, 4, 8), 'q/bias': (4, 8), 'out/kernel': (4, 8, 4), 'sink': (4, 8)}
  assert kernels(structs(attention)) == ['out/kernel', 'q/kernel', 'sink']
  conv = {'weight': (6, 8, 1, 1), 'bias': (6, 1, 1)}  # Equinox
  assert kernels(structs(conv)) == ['weight']
  assert kernels(structs({'a': (4, 4), 'b': (4, 4)})) == ['a', 'b']
  per_head = {'q_norm/scale': (4, 8), 'q/kernel': (16, 4, 8), 'mix': (4, 16)}
  assert kernels(structs(per_head)) == ['mix', 'q/kernel']


def test_nnx_says_what_is_state_by_the_type_of_its_variables():
  class Net(nnx.Module):
    def __init__(self):
      self.stats = nnx.BatchStat(jnp.ones((3, 4)))
      self.seen = nnx.Cache(jnp.ones((3, 4)))
      self.kernel = nnx.Param(jnp.ones((3, 4)))

  state = nnx.state(Net())
  assert kernels(state) == ['kernel']
  assert tree.skipped(state) == [None, 'in a nnx.Cache', 'in a nnx.BatchStat']


def test_equinox_keeps_its_state_in_a_type_of_its_own():
  def make(key):
    return eqx.nn.BatchNorm(8, 'batch', mode='batch')

  model, state = eqx.filter_vmap(eqx.nn.make_with_state(make))(
    jax.random.split(jax.random.key(0), 3)
  )
  assert kernels((model, state)) == []
  assert 'in a equinox.nn.State' in tree.skipped((model, state))


def test_real_attention_scanned_layers_and_norms():
  class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
      return nn.MultiHeadDotProductAttention(2)(nn.BatchNorm(False)(x)), None

  options = {'variable_axes': {'params': 0, 'batch_stats': 0}, 'split_rngs': {'params': True}}
  model = nn.scan(Block, length=3, **options)()
  x = jax.ShapeDtypeStruct((1, 5, 8), F32)
  variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, None), x)
  found = kernels(variables)
  assert [path.split('/')[-2:] for path in found] == [
    [name, 'kernel'] for name in ('key', 'out', 'query', 'value')
  ]
  reasons = set(tree.skipped(variables)) - {None}
  assert reasons == {'a bias by its name', 'a scale by its name', 'in the collection batch_stats'}


def test_reasons_that_are_not_names():
  params = structs({'kernel': (4, 1, 1), 'one': (1, 1), 'vector': (4,), 'none': (0, 4)})
  params |= {'int': jnp.ones((2, 2), int), 'fn': jax.nn.relu}
  assert dict(zip(tree.flatten(params)[0], tree.skipped(params))) == {
    'fn': 'not an array',
    'int': 'not floating',
    'kernel': None,  # of one output, but a kernel by its name
    'none': 'no weights',
    'one': 'no axis longer than 1',
    'vector': 'fewer than two dimensions',
  }
  assert tree.default_where('a/w', jnp.ones((2, 2)))
  assert not tree.default_where('a/bias', jnp.ones((2, 2)))
  assert not tree.default_where('w', jnp.ones(2))
