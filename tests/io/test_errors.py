"""Bad input: one clear error, each by its words."""

import json
import os
import sys
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jprune.io import _load, load, save

PARAMS = {
  'w': jnp.arange(64.0).reshape(8, 8),
  'b': jnp.ones(3),
  'v': jnp.ones(4),
  'i': jnp.ones(50),
}
MASKS = {
  'w': jnp.arange(64).reshape(8, 8) % 3 == 0,
  'b': None,
  'v': jnp.arange(4) > 0,
  'i': jnp.arange(50) == 7,
}


@pytest.fixture
def path(tmp_path):
  save(tmp_path / 'x', PARAMS, MASKS)
  contents = json.loads(safetensors.safe_open(tmp_path / 'x', 'numpy').metadata()['jprune'])
  assert {leaf[3] for leaf in contents['leaves']} == {'dense', 'bitmask', 'index'}
  return tmp_path / 'x'


# ------------------------------------------------------------------------------- save


@pytest.mark.parametrize('call', [lambda: save('x', PARAMS), lambda: load('x')])
def test_safetensors_is_missing(monkeypatch, call):
  monkeypatch.setitem(sys.modules, 'safetensors', None)
  with pytest.raises(ImportError, match=r"(save|load): needs safetensors.*'jprune\[io\]'"):
    call()


@pytest.mark.parametrize('call', [lambda path: save(path, PARAMS), load])
def test_path(tmp_path, call):
  with pytest.raises(TypeError, match=r'`path` must be a str or os.PathLike; got int'):
    call(3)
  folder = (
    'a checkpoint; got the folder .*holds no' if call is load else 'the name of a file; got the'
  )
  with pytest.raises(ValueError, match=f'`path` must be {folder}'):
    call(tmp_path)
  with pytest.raises(ValueError, match=r"(save|load): `path` must be the name of a file; got ''\."):
    call('')


def test_no_folder_and_no_file(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'save: `path` must be in an existing folder; got'):
    save(tmp_path / 'nowhere' / 'x', PARAMS)
  assert not (tmp_path / 'nowhere').exists()
  with pytest.raises(FileNotFoundError, match=r'load: `path` must be an existing file; got .*nope'):
    load(tmp_path / 'nope')


BAD_LEAVES = {
  'function': (jnp.tanh, TypeError, r"got \w+ at leaf 'a/0'. Filter it out"),
  'number': (1.5, TypeError, r"got float at leaf 'a/0'.*jnp.asarray"),
  'key': (jax.random.key(0), TypeError, r"got key<fry> .* at leaf 'a/0'.*key_data"),
  'shape': (jax.ShapeDtypeStruct((3,), 'float32'), TypeError, r'shape struct of shape \(3,\)'),
  'text': (np.array(['x']), TypeError, r"at leaf 'a/0'. Cast it to a dtype of JAX"),
  'objects': (np.array([None]), TypeError, r'got object of shape \(1,\)'),
}


@pytest.mark.parametrize('kind', sorted(BAD_LEAVES))
def test_leaves_that_cannot_be_stored(tmp_path, kind):
  leaf, error, match = BAD_LEAVES[kind]
  with pytest.raises(error, match='save: `params` must be .*' + match):
    save(tmp_path / 'x', {'a': [leaf], 'b': jnp.ones(2)})
  assert not os.listdir(tmp_path)


def test_traced(tmp_path):
  params = {'w': jnp.ones(2)}
  with pytest.raises(TypeError, match=r"`params` .*got a traced float32 .*leaf 'w'. Call it outsi"):
    jax.jit(lambda p: save(tmp_path / 'x', p))(params)
  with pytest.raises(TypeError, match=r"save: `masks` .*got a traced bool .* at leaf 'w'"):
    jax.jit(lambda m: save(tmp_path / 'x', params, m))({'w': jnp.ones(2, bool)})


def test_masks_and_empty_trees(tmp_path):
  with pytest.raises(ValueError, match=r'save: `params` must be a tree with at least one leaf'):
    save(tmp_path / 'x', {'a': []})
  with pytest.raises(ValueError, match=r"save: `masks` must be a tree with the structure.*'b'"):
    save(tmp_path / 'x', {'a': jnp.ones(2), 'b': jnp.ones(2)}, {'a': None})
  with pytest.raises(TypeError, match=r"save: `masks` must be of dtype bool.*at leaf 'a'"):
    save(tmp_path / 'x', {'a': jnp.ones(2)}, {'a': jnp.ones(2)})
  with pytest.raises(ValueError, match=r"save: `masks` must be of shape \(2,\).*at leaf 'a'"):
    save(tmp_path / 'x', {'a': jnp.ones(2)}, {'a': jnp.ones(3, bool)})


def test_colliding_names(tmp_path):
  with pytest.raises(ValueError, match=r"one leaf for each path; got several leaves 'a/b'"):
    save(tmp_path / 'x', {'a': {'b': jnp.ones(2)}, 'a/b': jnp.ones(2)})
  params = {'w': jnp.ones((9, 9)), 'w.shape': jnp.ones(2)}
  with pytest.raises(ValueError, match=r"differently named tensors.*got two tensors 'w.shape'"):
    save(tmp_path / 'x', params, {'w': jnp.eye(9, dtype=bool), 'w.shape': None})
  with pytest.raises(ValueError, match=r"two tensors '__metadata__'"):
    save(tmp_path / 'x', {'__metadata__': jnp.ones(2)})
  with pytest.raises(ValueError, match=r'a tree that the safetensors format can hold.*odd charac'):
    save(tmp_path / 'x', {'\ud800': jnp.ones(2)})
  assert not os.listdir(tmp_path)


# ------------------------------------------------------------------------------- load


@pytest.mark.parametrize('content', [b'PK\x03\x04' + bytes(99), b'{"w": [1, 2]}', b'\x80\x04K*.'])
def test_other_formats(path, content):
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r'must be a complete safetensors file.*of another format'):
    load(path)


def test_plain_safetensors_of_another_tool(path):
  safetensors.numpy.save_file({'w': np.ones((2, 2), np.float32)}, path, metadata={'format': 'pt'})
  with pytest.raises(ValueError, match=r'that jprune.save wrote.*jprune.io.open, .*flax.load_file'):
    load(path)


def rewrite(path, change_contents=None, change_tensors=None):
  """What another tool might do: new tensors or metadata, with checksums that fit."""
  with safetensors.safe_open(path, framework='numpy') as file:
    tensors = {name: file.get_tensor(name).copy() for name in file.keys()}  # noqa: SIM118
    contents = json.loads(file.metadata()['jprune'])
  if change_tensors:
    change_tensors(tensors)
  for leaf in contents['leaves']:
    ends = {
      'dense': ['', '.mask'],
      'bitmask': ['.shape', '.compressed', '.bitmask', '.row_offsets'],
      'index': ['.shape', '.values', '.indices'],
    }[leaf[3]]
    found = [tensors[leaf[0] + end] for end in ends if leaf[0] + end in tensors]
    leaf[-1] = f'{zlib.crc32(b"".join(array.tobytes() for array in found)):08x}'
  if change_contents:
    contents = change_contents(contents) or contents
  text = json.dumps(contents)
  metadata = {'jprune': text, 'jprune_crc32': f'{zlib.crc32(text.encode()):08x}'}
  safetensors.numpy.save_file(tensors, path, metadata=metadata)


def test_rewriting_alone_changes_nothing(path):
  before = load(path)
  rewrite(path)
  after = load(path)
  assert jax.tree.structure(before) == jax.tree.structure(after)
  for one, two in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
    np.testing.assert_array_equal(one, two)


def test_newer_version(path):
  rewrite(path, lambda c: {**c, 'version': 2})
  with pytest.raises(ValueError, match=r'a file of version 1 or older.*version 2. Upgrade jprune'):
    load(path)


def put(name, index, value):
  def change(tensors):
    tensors[name][index] = value

  return change


def cut(name):
  def change(tensors):
    tensors[name] = tensors[name][:-1]

  return change


BAD_TENSORS = {
  'shape': (put('w.shape', 0, 9), r"its shape is \(8, 8\) and \(9, 8\)\).*at leaf 'w'"),
  'bits': (put('w.bitmask', 0, 255), r"its mask keeps .* weights, not 22\).*at leaf 'w'"),
  'offsets': (put('w.row_offsets', 3, 1), r"row offsets don't fit its bitmask\).*at leaf 'w'"),
  'position': (put('i.indices', 0, 50), r"don't rise within \[0, 50\)\).*at leaf 'i'"),
  'negative': (put('i.indices', 0, -1), r"don't rise within \[0, 50\)\).*at leaf 'i'"),
  'cut': (cut('w.compressed'), r"tensor 'w.compressed' is F32 of shape \(21,\)\).*at leaf 'w'"),
  'gone': (lambda t: t.pop('i.values'), r'its tensors are not those that its metadata lists'),
  'more': (lambda t: t.update(z=t['b']), r'its tensors are not those that its metadata lists'),
  'partial': (put('v.mask', 0, 15), r"its mask keeps 4 weights, not 3\).*at leaf 'v'"),
}


@pytest.mark.parametrize('what', sorted(BAD_TENSORS))
def test_tensors_that_contradict_each_other(path, what):
  change, match = BAD_TENSORS[what]
  rewrite(path, change_tensors=change)
  with pytest.raises(ValueError, match='load: `path` must be an undamaged file; got .*' + match):
    load(path)


def test_a_file_that_shrinks_while_it_is_read(path, monkeypatch):
  real = _load._placement

  def shrinks(*args):
    os.truncate(path, path.stat().st_size - 200)
    return real(*args)

  monkeypatch.setattr(_load, '_placement', shrinks)
  with pytest.raises(ValueError, match=r"tensor '.*' is cut short"):
    load(path)


def test_like(path):
  like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), PARAMS)
  fewer = {key: like[key] for key in ('w', 'b', 'i')}
  with pytest.raises(ValueError, match=r"load: `like` must be a tree with.*no leaf 'v'\. "):
    load(path, like=fewer)
  with pytest.raises(ValueError, match=r"no leaf 'v' and an unknown leaf 'z'"):
    load(path, like={**fewer, 'z': like['v']})
  with pytest.raises(ValueError, match=r'got 5 leaves for 4'):
    load(path, like=Twice(list(like.values()), list(like)))
  with pytest.raises(ValueError, match=r"float32 of shape \(8, 8\), as.*shape \(8,\) at leaf 'w'"):
    load(path, like={**like, 'w': jnp.ones(8)})
  with pytest.raises(ValueError, match=r'`like` must be float32 of.*got bfloat16 .*cast after'):
    load(path, like={**like, 'b': jnp.ones(3, jnp.bfloat16)})


@jax.tree_util.register_pytree_with_keys_class
class Twice:
  """Gives its first leaf a second time, under the same key."""

  def __init__(self, leaves, names):
    self.leaves, self.names = leaves, names

  def tree_flatten_with_keys(self):
    keyed = [(jax.tree_util.DictKey(n), leaf) for n, leaf in zip(self.names, self.leaves)]
    return [keyed[0], *keyed], None

  @classmethod
  def tree_unflatten(cls, aux, leaves):
    raise NotImplementedError


@pytest.mark.parametrize('dtype', [np.float64, np.int64, np.uint64, np.complex128])
def test_64_bits_without_x64(tmp_path, dtype):
  save(tmp_path / 'x', {'n': np.ones(2, dtype)})
  with pytest.raises(ValueError, match=r"`path` must be .*at most 32 bits; got .* at leaf 'n'"):
    load(tmp_path / 'x')
  with jax.enable_x64(True):
    assert load(tmp_path / 'x')[0]['n'].dtype == dtype
