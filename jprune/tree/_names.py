"""What the names of leaves tell where there is no function to ask.

A product multiplies by a kernel, and whatever its number of axes a bias is none: in attention it is
``(heads, dims)``, in a stack of layers ``(layers, units)``. Without the function only names can say
so. :data:`TABLE` is all that is known of them, with who calls things so; three names mean too
much to go by themselves and are read with the leaves beside them (:func:`_beside`).

A name is the last part of a path, parts being set apart by ``/`` and ``.``, read without its
capitals: ``kernelBias`` as ``kernel_bias``. Some names say nothing (``weight``, ``embedding``);
then the module's, which is the part before, may.
"""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Shape = tuple[int, ...]

_COUNTED = r'(_?\d+)?'

# `input_layernorm`, `ln_1`, `norm1`, `q_norm`, `RMSNorm_0`; not `layernorm_mlp` or
# `adaLN_modulation`, which are layers with a norm before them
_NORM = (
  r'(.+_)?((layer|rms|batch|group|instance)_?norm(alization)?|norm(alization)?|ln|bn|gn)s?'
  r'(_?\d+|_(?!qkv|mlp|linear|proj|dense|fc|conv|head|modulation|kernel)[a-z]+)*'
)
_POSITION = (
  r'(.*_)?(rel|abs)?(pos(itions?|itional)?)(_?(emb(ed(ding)?)?s?|enc(oding)?s?|bias|table))*'
  r'(_(table|window|[hw]|\d+))*'
  r'|wpe|(.+_)?embed(ding)?s?_pos(ition)?s?|(row|col|column)_embed(ding)?s?'
  r'|rel(ative)?_(attention_)?(bias|embeddings?|emb)(_table)?'
)
_TOKEN = (
  r'(.+_)?(cls|class|mask|dist(illation)?|reg(ister)?|storage|query|prompt|pad|mem(ory)?|latent)'
  r'_?tokens?|cls|class_embedding|probe|registers|object_queries|query_embed(ding)?s?|latents'
  r'|masked_spec_embed|image_newline|sinks|(initial|start)_(state|carry|hidden)'
)


class Known(NamedTuple):
  """Names of one kind.

  Attributes:
    what: what leaves of these names are.
    names: a regular expression of the whole name.
    modules: one of the module's name, for names that say nothing by themselves.
    who: who calls them so, with an example each.
  """

  what: str
  names: str
  modules: str
  who: str


TABLE = (
  Known(
    'a position table',
    _POSITION + r'|(time|temporal)_embed(ding)?s?|(.+_)?inv_freq|(.+_)?freqs?(_(cos|sin|cis))?',
    _POSITION,
    'big_vision `pos_embedding`; Hugging Face Flax `position_embeddings`, safetensors '
    '`wpe.weight`, `embed_positions.weight`, `pos_embed`, '
    '`relative_position_bias_table`, `rel_pos_h`, `rope.freqs_cos`; T5X `rel_embedding`; '
    'linen `pos_embed/embedding`; Keras `position_embedding/embeddings`',
  ),
  Known(
    'a token',
    _TOKEN,
    _TOKEN,
    'big_vision `cls`, `MAPHead_0/probe`; Hugging Face `cls_token`, `class_embedding`, '
    '`mask_token`, `register_tokens`, `query_tokens`, `latents`; torchvision `class_token`',
  ),
  Known(
    'a bias',
    r'(.*_)?bias(es)?(_?\d+|_[kvqn]|_[ih]h(_.*)?)?',
    '',
    'linen, NNX, Equinox, MaxText and safetensors `bias`; Equinox `bias_n`; safetensors '
    '`in_proj_bias`, `bias_ih_l0`, `down_proj_bias`; MLX `biases`; Haiku `b`, see below',
  ),
  Known(
    'a zero point or another constant of a quantisation',
    r'(.*_)?(zero_?points?(_.+)?|[wq]?zeros?|zps?|absmax|quant_map|scb|amax|amax_history'
    r'|codebooks?|centroids)',
    '',
    'safetensors: GPTQ and AWQ `qzeros`, compressed-tensors `weight_zero_point`, HQQ `zero`, '
    'bitsandbytes `weight.absmax`, `weight.quant_map`, `SCB`, AQLM `codebooks`; linen '
    '`input_amax_history`',
  ),
  Known(
    'a scale',
    r'(.*_)?([wq]?t?scales?|scaling_factors?|gamma|gain)(_(inv|tril|weight|input)|_?\d+)?|layer_scale(_.*)?|lambda_?\d*'
    r'|(.+_)?weight_g|negative_slope|prelu(_weight)?|alpha|(.+_)?a_logs?|scale_shift_table'
    r'|(.*_)?decay|time_(mix(_[a-z]+)?|first|faaaa)',
    '',
    'linen, NNX, Haiku and MaxText `scale`; Keras and ConvNeXt `gamma`; BEiT `lambda_1`; DiT '
    '`scale_shift_table`; PReLU `negative_slope`, `alpha`; wav2vec 2 `weight_g`; decays of Mamba '
    '`A_log` and RWKV `time_decay`; of quantised weights `weight_scale`, '
    '`weight_scale_inv`, `scales`, `weights_scaling_factor`',
  ),
  Known(
    'an offset',
    r'(.*_)?(offset|beta|shift)s?' + _COUNTED,
    '',
    'Haiku `offset`; Keras and Hugging Face `beta`; hand-written `shift`',
  ),
  Known(
    "a norm's vector",
    _NORM,
    _NORM,
    'Hugging Face Flax `input_layernorm/weight`, safetensors `layers.0.ln_1.weight`; Equinox '
    '`norm/weight`; Megatron `layer_norm_weight`; hand-written `attn_norm`, `ln_1/g`',
  ),
  Known(
    'state',
    r'running_(mean|var|std)|moving_(mean|var|variance)|cached_(keys?|values?)|causal_mask|mask',
    '',
    'safetensors `running_mean`; Keras `moving_variance`; NNX `cached_key`',
  ),
)
"""What leaves are by their names; the first that fits counts. Names are in lower case."""

COLLECTIONS = (
  r'batch_stats|cache|intermediates|perturbations|opt_states?|_overwrite_with_gradient'
  r'|(mean|var)_ema|ema_(cluster_size|dw)'
)
"""Collections of state, whatever else is in the tree: linen's; Haiku's moving averages, each of
them a module."""

COLLECTIONS_BESIDE_PARAMS = (
  r'states?|(model|net)_state|stats|buffers|ema(_.+)?|.+_ema|non_trainable(_.+)?|constants'
)
"""Collections of state beside one that is called ``params``: elsewhere they may be layers."""

KERNELS = ('kernel', 'w', 'weight')

_LONGEST = 1000  # letters of a name that may say something
_DEEPEST = 64  # parts of a path

# names that say nothing: of an array in a box, and of a table or a norm's vector in its module
_BOX = re.compile(r'value|raw_value|\(.*')
_TUPLE = re.compile(r"\(('[^()]*', '[^()]*')\)")  # a key of flax.traverse_util.flatten_dict
_IN_TABLE = ('weight', 'embedding', 'embeddings', 'embedding_table', 'table', 'leaf', 'param')
_IN_NORM = ('weight', 'w', 'g', 'b', 'leaf', 'param')


def reasons(paths: Sequence[str], shapes: Sequence[Shape | None]) -> list[str | None]:
  """Why leaves are no kernels, as far as names tell; ``None`` where they don't.

  Args:
    paths: canonical leaf paths.
    shapes: of the leaves; ``None`` for what is no array.
  """
  found = [Named.of(path) for path in paths]
  groups: dict[tuple[str, ...], dict[str, Shape]] = defaultdict(dict)
  levels: dict[tuple[str, ...], set[str]] = defaultdict(set)
  for each, shape in zip(found, shapes):
    if shape is not None:
      groups[each.group][each.name] = shape
    for i, part in enumerate(each.parts):
      levels[each.parts[:i]].add(part)
  out = []
  for each, shape in zip(found, shapes):
    collection = _collection(each.parts, levels)
    if collection:
      out.append(f'in the collection {collection}')
      continue
    what = known(each.name, each.module)
    if what is None and shape is not None:
      what = _beside(each.name, shape, groups[each.group])
    out.append(what and f'{what} by its name')
  return out


def is_kernel(path: str) -> bool:
  """Whether a leaf is called as kernels are, even of one input or output."""
  return Named.of(path).name in KERNELS


class Named(NamedTuple):
  """A path taken apart: all parts, those of its module, the leaf's name and the module's."""

  parts: tuple[str, ...]
  group: tuple[str, ...]
  name: str
  module: str

  @classmethod
  def of(cls, path: str) -> Named:
    plain = _TUPLE.sub(lambda found: found[1][1:-1].replace("', '", '/'), path)
    parts = tuple(map(_lower, parts_of(plain)))
    last = len(parts) - 1
    while last and _BOX.fullmatch(parts[last]):
      last -= 1
    module = parts[last - 1] if last else ''
    if module.isdigit() and last > 1 and parts[last - 2].endswith('norms'):  # a list of them
      module = parts[last - 2]
    return cls(parts, parts[:last], parts[last], module)


def parts_of(path: str) -> list[str]:
  """The parts of a path; of absurdly deep ones the first and the last, so that none takes long."""
  parts = re.split(r'[/.]', path)
  return parts if len(parts) <= _DEEPEST else [*parts[: _DEEPEST - 2], *parts[-2:]]


@functools.lru_cache(2**12)
def _lower(name: str) -> str:
  return re.sub('(?<=[a-z0-9])(?=[A-Z])', '_', name).lower()


@functools.lru_cache(2**12)
def known(name: str, module: str) -> str | None:
  """What the table says of a name."""
  if max(len(name), len(module)) > _LONGEST:
    return None
  for each in TABLE:
    if re.fullmatch(each.names, name):
      return each.what
    generic = _IN_NORM if each.modules == _NORM else _IN_TABLE
    # `cls.weight` is the head of a classifier
    speaks = name in generic and not (each.modules == _TOKEN and name == 'weight')
    if each.modules and speaks and re.fullmatch(each.modules, module):
      return each.what
  return None


def _collection(parts: tuple[str, ...], levels: Mapping[tuple[str, ...], set[str]]) -> str | None:
  """The collection of state that a leaf is in."""
  for i, part in enumerate(parts):
    if re.fullmatch(COLLECTIONS, part):
      return part
    if 'params' in levels[parts[:i]] and re.fullmatch(COLLECTIONS_BESIDE_PARAMS, part):
      return part
  return None


def _beside(name: str, shape: Shape, group: Mapping[str, Shape]) -> str | None:
  """What a leaf is by the leaves beside it.

  - ``b`` (``b1``, ``b_in``) is a bias beside a ``w`` (``w1``, ``w_in``; Haiku, hand-written) or
    ``kernel`` of more axes, its own among them; in ``{'a': ..., 'b': ...}`` it may be a matrix.
  - ``weight`` beside a ``bias`` of its own shape is a norm's (Equinox), and so are ``g`` and ``b``.
  - ``mean`` and ``var`` beside each other or a norm's vectors are its statistics (NNX); else they
    may be layers.
  """
  same = lambda *names: any(group.get(other) == shape for other in names if other != name)
  if name == 'weight' and same('bias'):
    return "a norm's vector"
  if name in ('g', 'b') and same('g', 'b', *(['bias'] if name == 'g' else [])):
    return "a norm's vector"
  if name in ('mean', 'var') and same('mean', 'var', 'scale', 'bias', 'weight', 'gamma', 'beta'):
    return 'running statistics'
  if name.endswith('_b') and len(group.get(f'{name[:-1]}w', ())) > len(shape):  # AlphaFold
    return 'a bias'
  if name.startswith('b') and f'a{name[1:]}' not in group:
    rest = name[1:]
    other = re.compile(rf'(w|weight|kernel){re.escape(rest)}' if rest else r'w|w_.+|weight|kernel')
    mine = _long(shape)
    wide = (_long(group[each]) for each in group if other.fullmatch(each))
    if any(mine < theirs for theirs in wide):
      return 'a bias'
  return None


def _long(shape: Shape) -> Counter[int]:
  """The axes longer than 1: a stack may hold its layers along any of them."""
  return Counter(n for n in shape if n > 1)
