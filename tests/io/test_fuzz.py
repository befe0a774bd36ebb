"""Files that nobody wrote: each is refused in one clear sentence, or loads what was saved."""

import copy
import json
import math
import random
import re
import struct
import tracemalloc
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune.io import _container, _leaf, _memory, load, save

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


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch):
  """What is refused for its size is so on every machine."""
  monkeypatch.setattr(_memory, 'available', lambda: 2**27)


@pytest.fixture
def path(tmp_path):
  save(tmp_path / 'x', PARAMS, MASKS)
  return tmp_path / 'x'


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


def refusal(call, words):
  """What a call gives, or None if it says no, in these words."""
  try:
    return call()
  except ValueError as error:
    said = str(error)
  assert re.match(words, said)
  assert len(said) < 2000
  return None


def loaded_or_refused(path):
  return refusal(lambda: load(path), f'load: `path` must be .*{re.escape(str(path))}')


def outcome(path, allowed=()):
  """The params, all of whose leaves are among the allowed; None if they are refused."""
  if (found := loaded_or_refused(path)) is None:
    return None
  params, masks = found
  leaves = jax.tree.leaves(params)
  assert {np.asarray(leaf).tobytes() for leaf in leaves} <= set(allowed)
  if masks is not None:
    assert jax.tree.structure(params).flatten_up_to(masks)
  return params


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


@pytest.mark.parametrize('what', ['metadata', 'header'])
def test_mutated(path, what):
  header, contents, data = parts(path)
  allowed = {np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(load(path)[0])}
  rng, loaded = random.Random(0), 0
  tracemalloc.start()
  try:
    for _ in range(400):
      odd = header if what == 'header' else contents
      for _ in range(rng.choice([1, 1, 1, 2, 3])):
        odd = mutated(rng, odd)
      if what == 'header':
        write(path, odd, None, data)
      else:
        write(path, header, json.dumps(odd), data)
      loaded += outcome(path, allowed) is not None
    assert tracemalloc.get_traced_memory()[1] < 2**24
  finally:
    tracemalloc.stop()
  assert 0 < loaded < 100


def test_damaged(path):
  """Bits flipped, the end missing, more at the end: nothing goes unnoticed."""
  data, rng = path.read_bytes(), random.Random(0)
  for i in rng.sample(range(len(data)), 400):
    path.write_bytes(data[:i] + bytes([data[i] ^ 1 << rng.randrange(8)]) + data[i + 1 :])
    assert outcome(path) is None
  for i in [*range(20), *range(20, len(data), 31), len(data) - 1]:
    path.write_bytes(data[:i])
    assert outcome(path) is None
  for more in (b'\0', data):
    path.write_bytes(data + more)
    assert outcome(path) is None


@pytest.mark.parametrize('length', [0, 1, 10**6, 10**8, 10**9, 2**31, 2**62, 2**63 - 1, 2**64 - 1])
def test_lengths_of_the_header(path, length):
  for rest in (b'', b'{}', path.read_bytes()[8:]):
    path.write_bytes(struct.pack('<Q', length) + rest)
    assert outcome(path) is None


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


def test_odd_leaves(path):
  rng, loaded = random.Random(0), 0
  for _ in range(250):
    rows = built(rng, path)
    if (found := loaded_or_refused(path)) is None:
      continue
    loaded += 1
    params, masks = found
    for path_, dtype, shape, _, kept, mask, _ in rows:
      assert (params[path_].dtype.name, params[path_].shape) == (dtype, tuple(shape))
      assert (masks[path_] is None) == (mask is None)
      if mask == 'bool':
        assert np.count_nonzero(np.asarray(masks[path_])) == kept
        pruned = np.asarray(params[path_])[~np.asarray(masks[path_])]
        assert not any(pruned.tobytes())  # 0.0, not -0.0
  assert loaded > 20


# ----------------------------------------------------------------------- what is said of a few


def said_of(path):
  with pytest.raises(ValueError, match=r'^load: `path` must be ') as refused:
    load(path)
  assert str(path) in str(refused.value)
  return str(refused.value)


@pytest.mark.parametrize('depth', [3000, 10**5])
@pytest.mark.parametrize('form', ['[%s]', '{"a":%s}'])
def test_nested_deeply(path, depth, form):
  header, contents, data = parts(path)
  before, after = form.split('%s')
  nested = before * depth + '0' + after * depth
  write(path, header, nested, data)
  assert 'an undamaged file' in said_of(path)
  assert 'it nests too deeply' in said_of(path)
  contents['tree'] = 'here'
  write(path, header, json.dumps(contents).replace('"here"', nested), data)
  assert 'it nests too deeply' in said_of(path)
  write(path, nested.encode(), None, data)
  assert 'a complete safetensors file' in said_of(path)


def test_every_depth_is_saved_and_loaded_or_refused(tmp_path):
  refused = 0
  for depth in (10, 100, 250, 300, 330, 400, 2000):
    params = jnp.ones(1)
    for _ in range(depth):
      params = [params]
    words = 'save: `params` must be a tree that can be walked; got one that nests too deeply'
    if refusal(lambda params=params: save(tmp_path / 'x', params) or 'saved', words) is None:
      refused += 1
      continue
    assert jax.tree.structure(load(tmp_path / 'x')[0]) == jax.tree.structure(params)
  assert 0 < refused < 6


TEXTS = {
  'long number': ('{"version":' + '9' * 5000 + '}', 'Exceeds the limit'),
  'not a number': ('{"version":NaN,"leaves":[]}', 'its version is nan'),
  'infinity': ('{"version":1e999,"leaves":[]}', 'its version is inf'),
  'a bool': ('{"version":true,"leaves":[]}', 'its version is True'),
  'older than any': ('{"version":0,"leaves":[]}', 'its version is 0'),
  'twice': ('{"version":1,"version":1,"leaves":[]}', 'it has a key twice'),
  'no leaves': ('{"version":1,"leaves":[],"tree":{},"masks":false}', 'it has no leaves'),
  'nothing': ('', 'Expecting value'),
}


@pytest.mark.parametrize('what', sorted(TEXTS))
def test_what_metadata_cannot_say(path, what):
  header, _, data = parts(path)
  text, words = TEXTS[what]
  write(path, header, text, data)
  assert f'({words}' in said_of(path)


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


def test_weights_that_fit_into_no_memory(path, monkeypatch):
  empty_leaf(path, [1000, 1000])  # a leaf that is pruned as a whole is nothing odd
  assert load(path)[0]['w'].shape == (1000, 1000)
  empty_leaf(path, [2**62])
  assert "no array has the shape [4611686018427387904]) at leaf 'w'" in said_of(path)
  for shape in ([2**32], [2**60], [2**20, 2**26]):
    empty_leaf(path, shape)
    said = said_of(path)
    assert 'a file of leaves that fit into memory; got' in said
    assert f'takes {5 * math.prod(shape):,} bytes in memory, and 134,217,728 are free' in said
    assert "at leaf 'w'" in said
  monkeypatch.setattr(_memory, 'available', lambda: None)  # where the system doesn't tell
  empty_leaf(path, [2**60])
  assert "and there are no more) at leaf 'w'. Take a machine with more" in said_of(path)


def test_leaves_that_only_together_are_too_large(tmp_path):
  ones = {f'w{i}': np.zeros((2**22,), np.int8) for i in range(40)}
  save(tmp_path / 'x', ones, {name: np.zeros(2**22, bool) for name in ones})
  assert 'a file of leaves that fit into memory' in said_of(tmp_path / 'x')
  assert (tmp_path / 'x').stat().st_size < 2**14


def test_what_the_device_has_not(path, monkeypatch):
  def full(*args):
    raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory while trying to allocate')

  monkeypatch.setattr('jprune.io._load._on_device', full)
  assert 'fit into memory; got' in said_of(path)


def test_available_memory():
  assert _memory._of_group('/nowhere') is None
  found = _memory._of_machine()
  assert found is None or 2**24 < found < 2**60
