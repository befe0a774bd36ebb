"""Files that nobody wrote: each is refused in one clear sentence, or loads what was saved."""

import json
import math
import random
import re
import struct
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jprune.io import _memory, load, save
from tests.io.odd_files import MASKS, PARAMS, built, empty_leaf, mutated, parts, write


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch):
  """What is refused for its size is so on every machine."""
  monkeypatch.setattr(_memory, 'available', lambda: 2**27)


@pytest.fixture
def path(tmp_path):
  save(tmp_path / 'x', PARAMS, MASKS)
  return tmp_path / 'x'


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
