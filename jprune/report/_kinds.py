"""Which layer a leaf belongs to, and what kind of leaf it is, as far as names and shapes tell."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jprune.tree._names import parts_of, reasons

# what the reasons of the default selection come to; others are what they say
_VECTORS = {
  "a norm's vector": 'norm',
  'a bias': 'bias',
  'a scale': 'scale',
  'an offset': 'bias',
  'a position table': 'position',
  'a token': 'token',
  'running statistics': 'state',
}

# the first that is found in the names of the module and the leaf, in lower case
_MATRICES = (
  ('head', r'lm_head|(^|[/.])(heads?|classifier|classification_head|score|logits)([/.]|$)'),
  ('head', r'(^|[/.])cls[/.]|embed_out|pre_logits'),
  ('expert', r'expert|(^|[/._])moe'),
  ('attention', r'att(n|ention)|(^|[/._])(query|key|value|qkv|[qkvo]_proj|to_[qkvo])([/._]|$)'),
  (
    'embedding',
    r'(^|[/._])(wte|wpe|shared|tok_embeddings|patch_embed\w*)([/._]|$)|embed(ding|der|_)',
  ),
  (
    'mlp',
    r'mlp|ffn|feed_?forward|intermediate|(gate|up|down)_proj|c_fc|dense_4?h_to|(^|[/._])(fc|wi|wo'
    r'|linear)_?\d*([/._]|$)|layers?[._]\d+[/._]output',
  ),
)
_INDEXED = re.compile(r'(?:.*_|[A-Za-z]*[Bb]lock)?\d+')


def layer_of(path: str) -> str:
  """The layer: names up to the first number of one, else up to the leaf's own.

  Examples:
    >>> layer_of('model.layers.10.mlp.up_proj.weight'), layer_of('Encoder/block_3/Dense_0/kernel')
    ('model.layers.10', 'Encoder/block_3')
    >>> layer_of('lm_head.weight'), layer_of('w')
    ('lm_head', 'w')
  """
  parts = parts_of(path)
  last = max(len(parts) - 1, 1)
  number = next((i + 1 for i, part in enumerate(parts[:last]) if _INDEXED.fullmatch(part)), last)
  separators = re.findall('[/.]', path)[: number - 1]
  return ''.join(a + b for a, b in zip(parts, [*separators, '']))


def kinds(paths: Sequence[str], shapes: Sequence[tuple[int, ...] | None]) -> list[str]:
  """The kind of each leaf: ``'attention'``, ``'mlp'``, ``'norm'``, ``'bias'``, ...

  Examples:
    >>> kinds(['layers.0.self_attn.q_proj.weight', 'layers.0.norm1.weight'], [(8, 8), (8,)])
    ['attention', 'norm']
  """
  return [_kind(*each) for each in zip(paths, shapes, reasons(paths, shapes), strict=True)]


def _kind(path: str, shape: tuple[int, ...] | None, why: str | None) -> str:
  if why:
    return _VECTORS.get(why.removesuffix(' by its name'), 'state')
  name = re.sub('(?<=[a-z0-9])(?=[A-Z])', '_', path[-1000:]).lower()
  found = next((kind for kind, names in _MATRICES if re.search(names, name)), None)
  axes = sum(n > 1 for n in shape or ())
  if found and axes > 1:
    return found
  return 'vector' if axes < 2 else 'convolution' if len(shape or ()) > 3 else 'other matrix'
