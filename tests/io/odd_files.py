"""Files that nobody wrote, with checksums that fit whatever they say."""

import copy
import json
import math
import struct
import zlib

import jax.numpy as jnp
import numpy as np

from jprune.io import _container, _leaf

PARAMS = {
  'w': jnp.arange(1, 65.0).reshape(8, 8),
  'b': [jnp.ones(3), None],
  'v': (jnp.arange(1, 5.0),),
  'i': {3: jnp.arange(1, 51.0)},
}
MASKS = {
  'w': jnp.arange(64).reshape(8, 8) % 3 == 0,
  'b': [None, None],
  'v': (jnp.arange(4) > 0,),
  'i': {3: jnp.arange(50) == 7},
}
ODD = [
  *(None, True, False, -1, 0, 1, 2, 7, 64, 0.5, -0.0, math.inf, math.nan, 10**30, 10**400),
  *(2**31, 2**32, 2**53 + 1, 2**61, 2**62, 2**63 - 1, 2**63, 2**64, '', 'w', '\ud800', '\0'),
  *('index', 'dense', 'bitmask', 'bool', 'packed', 'float32', 'int4', 'float64', 'x' * 3000),
  *([], {}, [0], {'a': 0}, ['list'], ['dict', [1, 0], [True, 1]], ['node', ['a', 0], [1, 1]]),
  *(['dict', [math.nan, 0], [math.nan, 1]], ['dict', [[], 0]], [[[[[]]]]], list(range(300))),
  *([2**62], [2**62, 0], [0, 2**64 - 1], [2**32, 2**32], [0] * 65, [1] * 64, [1] * 65),
]


def parts(path):
  """Header, jprune's own metadata in it, and data."""
  data = path.read_bytes()
  (length,) = struct.unpack('<Q', data[:8])
  header = json.loads(data[8 : 8 + length])
  return header, json.loads(header['__metadata__']['jprune']), data[8 + length :]


def write(path, header, text=None, data=b''):
  """A file with checksums that fit, whatever it says."""
  if text is not None and isinstance(header, dict):
    checksum = f'{zlib.crc32(text.encode()):08x}'
    header = {**header, '__metadata__': {'jprune': text, 'jprune_crc32': checksum}}
  raw = header if isinstance(header, bytes) else json.dumps(header).encode()
  path.write_bytes(struct.pack('<Q', len(raw)) + raw + data)


def places(node, here=()):
  yield here
  children = enumerate(node) if isinstance(node, list) else ()
  for key, child in node.items() if isinstance(node, dict) else children:
    yield from places(child, (*here, key))


def at(node, place):
  for key in place:
    node = node[key]
  return node


def mutated(rng, tree):
  """One value replaced, removed, doubled, moved, or a little changed."""
  tree = copy.deepcopy(tree)
  known = list(places(tree))
  *above, key = rng.choice(known[1:]) if len(known) > 1 else ((None,))
  if key is None:
    return rng.choice(ODD)
  node, how = at(tree, above), rng.randrange(5)
  if how == 0:
    node[key] = rng.choice(ODD)
  elif how == 1:
    del node[key]
  elif how == 2 and isinstance(node, list):
    node.insert(key, node[key])
  elif how == 2:
    node[str(rng.choice(ODD))[:50]] = node[key]
  elif how == 3:
    node[key] = copy.deepcopy(at(tree, rng.choice(known)))
  else:
    node[key] = node[key] + rng.choice([-1, 1, 2**32]) if type(node[key]) is int else [node[key]]
  return tree


DIMS = [0, 0, 1, 1, 2, 3, 7, 8, 9, 64, 2**31, 2**40, 2**62, 2**63, 2**64 - 1]


def built(rng, path):
  """Leaves of odd shapes in any format, with tensors that fit them as far as there can be any."""
  rows, spans, data = [], {}, b''
  for number in range(rng.randint(1, 3)):
    few = lambda: rng.choice(DIMS if rng.random() < 0.2 else [1, 2, 3, 8, 9])
    shape = [few() for _ in range(rng.choice([0, 1, 1, 2, 2, 3]))]
    if rng.random() < 0.15:
      shape = [1] * rng.choice([31, 32, 33, 64, 65])
    size = math.prod(shape)
    kept = rng.choice([0, 0, 1, size // 2, size - 1, size] if size < 10**6 else [0, 1])
    # each shape that is packed is compiled
    mask = rng.choice(['bool', 'bool', None, 'packed' if shape == [9] else 'bool'])
    form = rng.choice(['dense', 'bitmask', 'index'])
    dtype = rng.choice(['float32', 'bfloat16', 'int8', 'bool', 'int4', 'complex64', 'uint8'])
    leaf = _leaf.Leaf(f'l{number}', dtype, tuple(shape), form, max(kept, 0), mask)
    checksum = 0
    for tensor in _leaf.tensors(leaf) if size or form == 'dense' else ():
      raw = bytes(tensor.nbytes if tensor.nbytes < 10**6 else rng.choice([0, 8]))
      if tensor.name.endswith('.shape') and max(shape, default=0) < 2**63:
        raw = np.array(shape, '<i8').tobytes()
      elif tensor.name.endswith('.indices'):
        raw = np.arange(len(raw) // tensor.dtype.itemsize).astype(tensor.dtype).tobytes()
      elif rng.random() < 0.5:
        raw = rng.randbytes(len(raw))
      span = _container.as_span(tensor, len(data), len(data) + len(raw))
      spans[tensor.name] = {'dtype': span.code, 'shape': span.shape, 'data_offsets': span[2:]}
      data, checksum = data + raw, zlib.crc32(raw, checksum)
    rows.append([*leaf, f'{checksum:08x}'])
  tree = {row[0]: i for i, row in enumerate(rows)}
  text = json.dumps({'version': 1, 'masks': True, 'tree': tree, 'leaves': rows})
  write(path, spans, text, data)
  return rows


def empty_leaf(path, shape):
  """430 bytes that speak of many weights, of which none is kept."""
  shown = np.array(shape, '<i8').tobytes()
  leaf = ['w', 'float32', shape, 'index', 0, 'bool', f'{zlib.crc32(shown):08x}']
  end = [len(shown)] * 2
  spans = {
    'w.shape': {'dtype': 'I64', 'shape': [len(shape)], 'data_offsets': [0, len(shown)]},
    'w.values': {'dtype': 'F32', 'shape': [0], 'data_offsets': end},
    'w.indices': {'dtype': 'I64' if math.prod(shape) > 2**31 else 'I32', 'shape': [0]},
  }
  spans['w.indices']['data_offsets'] = end
  text = json.dumps({'version': 1, 'masks': True, 'tree': {'w': 0}, 'leaves': [leaf]})
  write(path, spans, text, shown)
