"""What NumPy and Flax wrote, read leaf by leaf; what PyTorch and others did, refused."""

import ast
import io
import os
import pathlib
import sys
import tracemalloc
import zipfile

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune.io import _refused


def tree_of(dtype):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), dtype)
  layer = {'kernel': draw(4, 6), 'bias': draw(6), 'empty': draw(0, 3)}
  return {'params': {'Dense_0': layer, 'scale': draw()}, 'step': jnp.int32(3)}


def assert_read(path, expected):
  with jprune.io.open(path) as model:
    found, wanted = jax.tree.leaves(model.params), jax.tree.leaves(expected)
    assert jax.tree.structure(model.params) == jax.tree.structure(expected)
    for one, two in zip(found, map(np.asarray, wanted), strict=True):
      assert (one.dtype, one.shape) == (two.dtype, two.shape)
      assert one.read().tobytes() == two.tobytes()
      assert one.read().flags.writeable
      if one.shape[:1] > (1,):
        assert one[1].tobytes() == two[1].tobytes()


# ----------------------------------------------------------------------------------------- Flax


@pytest.mark.parametrize('chunk', [None, 20], ids=['whole', 'chunked'])
@pytest.mark.parametrize('dtype', ['bfloat16', 'float32', 'float8_e4m3fn'])
def test_what_flax_wrote(tmp_path, monkeypatch, dtype, chunk):
  if chunk:
    monkeypatch.setattr(flax.serialization, 'MAX_CHUNK_SIZE', chunk)
  params, path = tree_of(dtype), tmp_path / 'flax_model.msgpack'
  path.write_bytes(flax.serialization.to_bytes(params))
  assert (b'__msgpack_chunked_array__' in path.read_bytes()) == bool(chunk)
  assert_read(path, params)


def test_numbers_and_scalars_of_flax(tmp_path):
  path = tmp_path / 'x.msgpack'
  tree = {'a': 2**40, 'b': True, 'c': 1 + 2j, 'f': 0.5, 'i': 7, 's': np.float16(2), 'none': None}
  path.write_bytes(flax.serialization.msgpack_serialize(tree))
  with jprune.io.open(path) as model:
    read = {name: leaf.read() for name, leaf in model.params.items() if leaf is not None}
  kinds = {name: value.dtype.name for name, value in read.items()}
  assert kinds == {
    'a': 'int64', 'b': 'bool', 'c': 'complex64', 'f': 'float32', 'i': 'int32', 's': 'float16',
  }  # fmt: skip
  assert {name: value.item() for name, value in read.items()} == {
    name: value for name, value in tree.items() if value is not None
  }


def test_a_leaf_of_flax_at_a_time(tmp_path):
  leaves = {f'w{i}': np.ones((512, 1024), np.float32) for i in range(6)}
  path = tmp_path / 'x.msgpack'
  path.write_bytes(flax.serialization.to_bytes(leaves))
  tracemalloc.start()
  try:
    with jprune.io.open(path) as model:
      opened = tracemalloc.get_traced_memory()[1]
      assert all(leaf.read().all() for leaf in model.params.values())
    assert opened < 2**19
    assert tracemalloc.get_traced_memory()[1] < 3 * 2**21
  finally:
    tracemalloc.stop()


DAMAGED = {
  'cut short': (lambda data: data[:-5], 'it is cut short'),
  'cut in a name': (lambda data: data[:3], 'OutOfData'),
  'longer': (lambda data: data + b'\xc0', 'something follows its end'),
  'empty': (lambda data: b'', 'empty'),
  'another extension': (lambda data: b'\x81\xa1a\xd4\x07\x00', 'an extension 7, which is none of'),
  'a lie': (lambda data: data.replace(b'\x93\x92\x04\x06', b'\x93\x92\x04\x7f'), 'fewer bytes'),
  'nested': (lambda data: b'\x81\xa1a' * 5000 + b'\xc0', 'RecursionError'),
}


@pytest.mark.parametrize('kind', sorted(DAMAGED))
def test_damaged_files_of_flax(tmp_path, kind):
  spoil, said = DAMAGED[kind]
  path = tmp_path / 'x.msgpack'
  params = {'kernel': np.ones((4, 6), np.float32)}
  path.write_bytes(spoil(flax.serialization.to_bytes(params)))
  with pytest.raises(ValueError, match=f'open: `path` must be an undamaged file; got .*{said}'):
    jprune.io.open(path)


def test_texts_of_flax(tmp_path):
  path = tmp_path / 'x.msgpack'
  path.write_bytes(flax.serialization.msgpack_serialize({'a': 'text', 'w': np.ones(2)}))
  with jprune.io.open(path) as model:
    assert model.params['a'] == 'text'
  path.write_bytes(flax.serialization.msgpack_serialize({}))
  with pytest.raises(ValueError, match='must be a file with at least one tensor; got'):
    jprune.io.open(path)


# ---------------------------------------------------------------------------------------- NumPy


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_what_numpy_wrote(tmp_path, save):
  arrays = {
    'b/kernel': np.arange(12, dtype=np.float32).reshape(3, 4),
    'a': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    'bf16': np.asarray(jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3)),
    'ids': np.arange(3),
    'one': np.float16(1),
  }
  save(tmp_path / 'x.npz', **arrays)
  assert_read(tmp_path / 'x.npz', arrays)


def test_other_byte_orders(tmp_path):
  np.savez(tmp_path / 'x.npz', w=np.arange(3, dtype='>f4'))
  assert_read(tmp_path / 'x.npz', {'w': np.arange(3, dtype='=f4')})


def test_a_closed_file(tmp_path):
  np.savez(tmp_path / 'x.npz', w=np.ones(3))
  with jprune.io.open(tmp_path / 'x.npz') as model:
    pass
  with pytest.raises(ValueError, match="read: `path` must be open; got .* at leaf 'w'. Read insi"):
    model.params['w'].read()


@pytest.mark.parametrize(
  ('array', 'dtype'),
  [
    (np.array([{}], object), 'object'),
    (np.array(['text']), '<U4'),
    (np.zeros(2, 'M8[s]'), r'datetime64\[s\]'),
    (np.zeros(2, 'V1'), r'\|V1'),
  ],
  ids=['objects', 'texts', 'times', 'bytes'],
)
def test_what_is_no_number(tmp_path, array, dtype):
  np.savez(tmp_path / 'x.npz', w=array)
  said = f"must be a file of arrays of numbers; got .* with an array of {dtype} at leaf 'w'. Save"
  with pytest.raises(ValueError, match=said):
    jprune.io.open(tmp_path / 'x.npz')


def test_damaged_files_of_numpy(tmp_path):
  path = tmp_path / 'x.npz'
  refused = lambda said: pytest.raises(ValueError, match=f'must be an undamaged file; .*{said}')
  path.write_bytes(b'no archive')
  with refused('not a zip file'):
    jprune.io.open(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('notes.txt', 'x')
  with refused("it holds what is no array\\).* at leaf 'notes.txt'"):
    jprune.io.open(path)
  buffer = io.BytesIO()
  np.save(buffer, np.ones(3))
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('w.npy', buffer.getvalue())
    with pytest.warns(UserWarning, match='Duplicate'):
      archive.writestr('w.npy', buffer.getvalue())
  with refused("it holds a name twice\\).* at leaf 'w'"):
    jprune.io.open(path)
  np.savez(path, w=np.arange(10_000.0))
  data = bytearray(path.read_bytes())
  data[-1000] ^= 1
  path.write_bytes(data)
  with jprune.io.open(path) as model, refused("Bad CRC.* at leaf 'w'"):
    model.params['w'].read()


# ------------------------------------------------------------------------------------ what isn't


def test_save_takes_them_leaf_by_leaf(tmp_path):
  params = tree_of('float32')
  (tmp_path / 'x.msgpack').write_bytes(flax.serialization.to_bytes(params))
  with jprune.io.open(tmp_path / 'x.msgpack') as model:
    jprune.save(tmp_path / 'x.safetensors', model.params)
  found, _ = jprune.load(tmp_path / 'x.safetensors')
  assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), found, params))


def test_load_names_the_function_that_reads_them(tmp_path):
  np.savez(tmp_path / 'x.npz', w=np.ones(3))
  with pytest.raises(ValueError, match=r'load: `path` must be a safetensors file; got .*io\.open'):
    jprune.load(tmp_path / 'x.npz')


@pytest.mark.parametrize('name', ['x.npz', 'x.msgpack', 'x.bin', 'x.pt'])
def test_a_safetensors_file_may_be_called_anything(tmp_path, name):
  jprune.save(tmp_path / name, {'w': jnp.ones(3)})
  assert jprune.load(tmp_path / name)[0]['w'].sum() == 3
  with jprune.io.open(tmp_path / name) as model:
    assert model.params['w'].read().sum() == 3


def code_of(error):
  """The lines of a message that convert a file, as a program."""
  first, *lines = str(error).split('\n')
  assert first.endswith('Convert it first:')
  assert all(line.startswith('    ') for line in lines)
  program = '\n'.join(line[4:] for line in lines)
  ast.parse(program)
  return program


@pytest.mark.parametrize('end', _refused.ENDS)
@pytest.mark.parametrize('read', [jprune.io.open, jprune.load], ids=['open', 'load'])
def test_what_is_refused_is_not_read(tmp_path, read, end):
  path = tmp_path / f'IN model{end.upper()}'
  path.write_bytes(b'\x80\x04')
  path.chmod(0)
  with pytest.raises(ValueError, match='`path` must be a checkpoint of .*Convert it first') as said:
    read(path)
  program = code_of(said.value)
  assert repr(str(path)) in program
  assert repr(str(path.with_suffix('.safetensors'))) in program or (
    repr(str(path.with_suffix('.npz'))) in program
  )


@pytest.mark.parametrize('end', ['.bin', '.pt', '.pth'])
def test_a_folder_of_pickles(tmp_path, end):
  (tmp_path / 'config.json').touch()
  (tmp_path / 'training_args.bin').touch()
  with pytest.raises(ValueError, match='which holds no safetensors file. Name the folder'):
    jprune.io.open(tmp_path)
  for i in (1, 2):
    (tmp_path / f'pytorch_model-0000{i}-of-00002{end}').touch()
  with pytest.raises(ValueError, match='a folder of pickles of PyTorch. Convert it') as said:
    jprune.io.open(tmp_path)
  program = code_of(said.value)
  assert repr(os.path.join(tmp_path, f'*model*{end}')) in program
  assert f"name.removesuffix('{end}')" in program


def test_a_folder_with_a_file_that_is_meant(tmp_path):
  path = pathlib.Path(tmp_path, 'flax_model.msgpack')
  path.write_bytes(flax.serialization.to_bytes({'w': np.ones(3)}))
  with pytest.raises(ValueError, match='Name the file that is meant, such as .*flax_model.msgpac'):
    jprune.io.open(tmp_path)


def test_what_is_not_there_is_not_converted(tmp_path):
  with pytest.raises(FileNotFoundError, match='must be an existing file'):
    jprune.io.open(tmp_path / 'x.pt')


def test_without_msgpack(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'msgpack', None)
  (tmp_path / 'x.msgpack').touch()
  with pytest.raises(ImportError, match=r"open: needs msgpack, .*'jprune\[io\]'"):
    jprune.io.open(tmp_path / 'x.msgpack')
