"""The examples of the guide and of the help, tried on the names that Hugging Face gives things."""

import pathlib
import re
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune._cli import _parser
from jprune._cli._select import selected
from jprune._cli._source import opened
from tests.cli.files import foreign

GUIDE = pathlib.Path(__file__).parent.parent.parent / 'docs/guides/command_line.md'


def layers(*lines):
  return '\n'.join(line.replace('N', str(i)) for i in range(2) for line in lines)


# all leaves of LlamaForCausalLM, GPT2LMHeadModel and BertForSequenceClassification, small
LLAMA = f"""
model.embed_tokens.weight 32 16
{
  layers(
    'model.layers.N.self_attn.q_proj.weight 16 16',
    'model.layers.N.self_attn.k_proj.weight 8 16',
    'model.layers.N.self_attn.v_proj.weight 8 16',
    'model.layers.N.self_attn.o_proj.weight 16 16',
    'model.layers.N.mlp.gate_proj.weight 24 16',
    'model.layers.N.mlp.up_proj.weight 24 16',
    'model.layers.N.mlp.down_proj.weight 16 24',
    'model.layers.N.input_layernorm.weight 16',
    'model.layers.N.post_attention_layernorm.weight 16',
  )
}
model.norm.weight 16
lm_head.weight 32 16
"""
GPT2 = f"""
transformer.wte.weight 32 16
transformer.wpe.weight 8 16
{
  layers(
    'transformer.h.N.ln_1.weight 16',
    'transformer.h.N.ln_1.bias 16',
    'transformer.h.N.attn.c_attn.weight 16 48',
    'transformer.h.N.attn.c_attn.bias 48',
    'transformer.h.N.attn.c_proj.weight 16 16',
    'transformer.h.N.attn.c_proj.bias 16',
    'transformer.h.N.ln_2.weight 16',
    'transformer.h.N.ln_2.bias 16',
    'transformer.h.N.mlp.c_fc.weight 16 64',
    'transformer.h.N.mlp.c_fc.bias 64',
    'transformer.h.N.mlp.c_proj.weight 64 16',
    'transformer.h.N.mlp.c_proj.bias 16',
  )
}
transformer.ln_f.weight 16
transformer.ln_f.bias 16
lm_head.weight 32 16
"""
BERT = f"""
bert.embeddings.word_embeddings.weight 32 16
bert.embeddings.position_embeddings.weight 8 16
bert.embeddings.token_type_embeddings.weight 2 16
bert.embeddings.LayerNorm.weight 16
bert.embeddings.LayerNorm.bias 16
{
  layers(
    'bert.encoder.layer.N.attention.self.query.weight 16 16',
    'bert.encoder.layer.N.attention.self.query.bias 16',
    'bert.encoder.layer.N.attention.self.key.weight 16 16',
    'bert.encoder.layer.N.attention.self.key.bias 16',
    'bert.encoder.layer.N.attention.self.value.weight 16 16',
    'bert.encoder.layer.N.attention.self.value.bias 16',
    'bert.encoder.layer.N.attention.output.dense.weight 16 16',
    'bert.encoder.layer.N.attention.output.dense.bias 16',
    'bert.encoder.layer.N.attention.output.LayerNorm.weight 16',
    'bert.encoder.layer.N.attention.output.LayerNorm.bias 16',
    'bert.encoder.layer.N.intermediate.dense.weight 24 16',
    'bert.encoder.layer.N.intermediate.dense.bias 24',
    'bert.encoder.layer.N.output.dense.weight 16 24',
    'bert.encoder.layer.N.output.dense.bias 16',
    'bert.encoder.layer.N.output.LayerNorm.weight 16',
    'bert.encoder.layer.N.output.LayerNorm.bias 16',
  )
}
bert.pooler.dense.weight 16 16
bert.pooler.dense.bias 16
classifier.weight 2 16
classifier.bias 2
"""
MODELS = {'llama': LLAMA, 'gpt2': GPT2, 'bert': BERT}


def names_of(model):
  lines = (line.split() for line in MODELS[model].split('\n') if line)
  return {name: tuple(map(int, shape)) for name, *shape in lines}


def matrices_of(model):
  """All that multiplies: what has two axes but embeddings and heads, which are named here."""
  spared = ('embed', 'wte', 'wpe', 'lm_head', 'classifier')
  shapes = names_of(model).items()
  return {name for name, shape in shapes if len(shape) == 2 and not any(x in name for x in spared)}


@pytest.fixture(scope='module', params=sorted(MODELS))
def model(request, tmp_path_factory):
  path = tmp_path_factory.mktemp('names') / f'{request.param}.safetensors'
  arrays = {name: np.ones(shape, np.float32) for name, shape in names_of(request.param).items()}
  return request.param, foreign(path, arrays, {'format': 'pt'})


def examples():
  """The commands of the guide and of the help that prune."""
  help_ = ''.join(each.format_help() for each in _parser.parsers()[1].values())
  text = re.sub(r' *\\\n *', ' ', f'{GUIDE.read_text()}\n{help_}')
  found = re.findall(r'^ *((?:python -m )?jprune prune .*?)(?:   .*)?$', text, re.MULTILINE)
  return [shlex.split(line.removeprefix('python -m ')) for line in found]


def chosen(path, args):
  with opened('prune', [str(path)]) as source:
    return {source.plans[i].path for i in selected(source, args.where)}


def test_no_example_touches_a_norm(model):
  name, path = model
  commands = examples()
  assert len(commands) >= 8
  for command in commands:
    args = _parser.parsed(command[1:])
    try:
      found = chosen(path, args)
    except ValueError:  # for models with other names
      assert args.where
      assert name != 'llama' or args.where == ['transformer.wpe.weight']
      continue
    assert found
    assert not [leaf for leaf in found if re.search(r'norm|ln_|bias|LayerNorm', leaf)]
    wide = [leaf for leaf in found if 'embed' in leaf or 'wte' in leaf or 'head' in leaf]
    assert not (args.where and wide)


def test_all_but_embeddings_and_heads(model):
  name, path = model
  (pattern,) = {w for c in examples() for w in _parser.parsed(c[1:]).where or () if '?!' in w}
  args = _parser.parsed(['prune', 'a', 'b', '--sparsity', '.5', '--where', pattern])
  assert chosen(path, args) == matrices_of(name)
  params = {k: jnp.ones(s) for k, s in names_of(name).items()}
  masks = jprune.prune(params, 0.5, where=pattern)
  assert {k for k, mask in masks.items() if mask is not None} == matrices_of(name)
  assert jax.tree.structure(masks, is_leaf=lambda x: x is None) == jax.tree.structure(params)


def test_the_default_takes_no_vectors(model):
  name, path = model
  found = chosen(path, _parser.parsed(['prune', 'a', 'b', '--sparsity', '.5']))
  tables = {k for k in names_of(name) if re.search('embed_t|word_e|type_e|wte|lm_head|classif', k)}
  assert found == matrices_of(name) | {k for k in tables if k.endswith('weight')}


def test_parts_of_layers():
  shapes = names_of('llama')
  for pattern, part in (('mlp.*weight$', '.mlp.'), ('layers.*(mlp|attn)', '.layers.')):
    assert any(pattern in (_parser.parsed(c[1:]).where or ()) for c in examples())
    params = {k: jnp.ones(s) for k, s in shapes.items()}
    masks = jprune.prune(params, 0.5, where=pattern)
    wanted = {k for k in shapes if part in k and len(shapes[k]) == 2}
    assert {k for k, mask in masks.items() if mask is not None} == wanted
