"""Checkpoints opened as trees of lazy leaves: what is read, and how much of it."""

import json
import os
import random
import shutil
import struct
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy

import jprune
from jprune.io import _boxes, _container, load, save

PARAMS = {
  'dense': jnp.arange(120.0).reshape(4, 5, 6),
  'most': jnp.arange(1, 181.0).reshape(3, 6, 10).astype(jnp.bfloat16),
  'some': jnp.arange(1, 1201.0).reshape(6, 10, 20),
  'few': jnp.arange(1, 2001.0).reshape(40, 50),
  'line': jnp.arange(1, 300),
  'scalar': jnp.array(3.0),
}
MASKS = {
  'dense': None,
  'most': jnp.arange(180).reshape(3, 6, 10) % 7 < 6,
  'some': jnp.arange(1200).reshape(6, 10, 20) % 3 == 0,
  'few': jnp.arange(2000).reshape(40, 50) % 499 == 7,
  'line': jnp.arange(299) % 3 == 1,
  'scalar': jnp.array(True),
}
INDEX = 'model.safetensors.index.json'


@pytest.fixture
def path(tmp_path):
  save(tmp_path / 'x', PARAMS, MASKS)
  return tmp_path / 'x'


def test_leaves(path):
  params, masks = load(path)
  with jprune.io.open(path) as opened:
    forms = {row[0]: row[3] for row in json.loads(opened._files.metadata['jprune'])['leaves']}
    assert forms == {
      'dense': 'dense',
      'few': 'index',
      'line': 'bitmask',
      'most': 'dense',
      'scalar': 'dense',
      'some': 'bitmask',
    }
    for name, leaf in opened.params.items():
      wanted, mask = np.asarray(params[name]), opened.masks[name]
      assert (leaf.path, leaf.shape, leaf.dtype) == (name, wanted.shape, wanted.dtype)
      assert (leaf.ndim, leaf.size, leaf.nbytes) == (wanted.ndim, wanted.size, wanted.nbytes)
      np.testing.assert_array_equal(leaf.read(), wanted)
      np.testing.assert_array_equal(np.asarray(leaf, np.float64), wanted.astype(np.float64))
      np.testing.assert_array_equal(jnp.asarray(leaf), wanted)
      assert (mask is None) == (masks[name] is None)
      values, held = leaf.read_masked()
      np.testing.assert_array_equal(values, wanted)
      if mask is not None:
        assert (mask.dtype, mask.shape) == (np.bool_, wanted.shape)
        np.testing.assert_array_equal(mask.read(), masks[name])
        np.testing.assert_array_equal(held, masks[name])
    assert repr(opened.params['most']) == "LazyArray('most', bfloat16[3, 6, 10])"
    assert len(opened.params['most']) == 3
    assert repr(opened) == f'Checkpoint({str(path)!r}, leaves=6, files=1)'
    assert opened.shards == {str(path): tuple(sorted(PARAMS))}


def indices(rng, shape):
  """Ints and slices of all kinds, for some of the axes."""
  for _ in range(30):
    parts = []
    for n in shape[: rng.randint(0, len(shape))]:
      ends = [rng.choice([None, rng.randint(-n - 2, n + 2)]) for _ in range(2)]
      step = rng.choice([None, 1, 1, 2, -1, -3])
      parts.append(rng.choice([rng.randint(-n, n - 1), slice(*ends, step), slice(None)]))
    if rng.random() < 0.3:
      parts.insert(0, ...)
      parts[1:] = [slice(None)] * (rng.random() < 0.5 and len(shape) > 0)
    yield tuple(parts)


@pytest.mark.parametrize('run', [1, 2**15])
def test_parts(path, monkeypatch, run):
  """As NumPy has them, whether short runs are read one by one or with what lies between them."""
  monkeypatch.setattr(_boxes, '_RUN', run)
  monkeypatch.setattr(_boxes, '_BLOCK', 500)
  params, masks = load(path)
  rng = random.Random(0)
  with jprune.io.open(path) as opened:
    for name, leaf in opened.params.items():
      wanted = np.asarray(params[name])
      for index in indices(rng, wanted.shape):
        np.testing.assert_array_equal(leaf.read(index), wanted[index], str((name, index)))
        assert leaf.read(index).dtype == wanted.dtype
        if opened.masks[name] is not None:
          np.testing.assert_array_equal(opened.masks[name][index], np.asarray(masks[name])[index])
    assert opened.params['some'][1].flags.c_contiguous
    np.testing.assert_array_equal(opened.params['few'][3], np.asarray(params['few'])[3])


@pytest.mark.parametrize(
  ('name', 'most'), [('dense', 120), ('most', 120 + 12), ('some', 80 * 4 + 11 * 8 + 30)]
)
def test_a_step_is_read_alone(path, monkeypatch, name, most):
  """A step of a stack, and of one that is stored sparse what stands for that step."""
  read = []
  real = _container.Reader.read_into
  with jprune.io.open(path) as opened:
    patched = lambda self, tensor, at, out: read.append(out.nbytes) or real(self, tensor, at, out)
    monkeypatch.setattr(_container.Reader, 'read_into', patched)
    opened.params[name][1]
  assert 0 < sum(read) <= most


def test_bad_indices(path):
  with jprune.io.open(path) as opened:
    leaf = opened.params['dense']
    for index in (4, -5, (0, 0, 6), (0,) * 4, True, 1.5, [0, 1], (..., ...), None, 'x', (None,)):
      with pytest.raises(IndexError, match=r'read: `index` must be ints and slices.*\(4, 5, 6\)'):
        leaf[index]
    with pytest.raises(TypeError, match='without axes'):
      len(opened.params['scalar'])
    with pytest.raises(ValueError, match="'dense' is in a file"):
      np.asarray(leaf, copy=False)


def test_a_closed_checkpoint(path):
  opened = jprune.io.open(path)
  opened.close()
  with pytest.raises(
    ValueError, match=r"read: `path` must be open; got .*was closed at leaf 'few'"
  ):
    opened.params['few'].read()
  with pytest.raises(ValueError, match='which was closed'):
    opened.params['dense'][0]


def test_lazy_leaves_stand_for_their_shapes(tmp_path):
  params = {'in': jnp.ones((4, 8)), 'out': jnp.ones((8, 2))}
  fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
  save(tmp_path / 'x', params)
  x = jnp.ones((3, 4))
  with jprune.io.open(tmp_path / 'x') as opened:
    assert jax.eval_shape(fn, opened.params, x).shape == (3, 2)
    found, wanted = (jprune.graph.channels(fn, each, x) for each in (opened.params, params))
    assert found.to_dict() == wanted.to_dict()
    assert jprune.graph.macs(fn, opened.params, x).dense == jprune.graph.macs(fn, params, x).dense
    assert jprune.tree.skipped(opened.params) == jprune.tree.skipped(params)


def test_lazy_leaves_are_pruned(path):
  params, _ = load(path)
  with jprune.io.open(path) as opened:
    masks = jprune.prune(opened.params, 0.5)
    pruned = jprune.apply(opened.params, masks)
    assert jprune.tally(opened.params).to_dict() == jprune.tally(params).to_dict()
  jax.tree.map(np.testing.assert_array_equal, masks, jprune.prune(params, 0.5))
  jax.tree.map(np.testing.assert_array_equal, pruned, jprune.apply(params, masks))
  assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(pruned))


@pytest.mark.parametrize(
  ('name', 'call'),
  [
    ('magnitude', jprune.scores.magnitude),
    ('tally', jprune.tally),
    ('reconstruct.plan', lambda model: jprune.reconstruct.plan(lambda params: params, model)),
  ],
)
def test_a_checkpoint_is_no_tree(name, call, path):
  told = rf'{name}: `params` must be a tree of arrays; got Checkpoint%s\. Pass .*checkpoint.params'
  with jprune.io.open(path) as model:
    with pytest.raises(TypeError, match=told % ''):
      call(model)
    with pytest.raises(TypeError, match=told % " at leaf 'a'"):
      call({'a': model})


def test_lazy_leaves_are_saved_one_at_a_time(path):
  with jprune.io.open(path) as opened:
    save(path.parent / 'set', opened.params, opened.masks, max_shard_size=2000)
    again = load(path.parent / 'set')
  jax.tree.map(np.testing.assert_array_equal, again, load(path))


def test_damage_is_found_when_a_leaf_is_read_whole(path):
  with jprune.io.open(path) as opened:
    last = max(opened._files.spans, key=lambda name: opened._files.spans[name].end)
  data = bytearray(path.read_bytes())
  data[-1] ^= 1
  path.write_bytes(data)
  damaged = last.partition('.')[0]
  with jprune.io.open(path) as opened:
    for name, leaf in opened.params.items():
      if name != damaged:
        leaf.read()
    with pytest.raises(ValueError, match=r'open: `path` must be an undamaged file.*checksum'):
      opened.params[damaged].read()


def test_row_offsets_that_do_not_fit(path):
  tensors = safetensors.numpy.load_file(path)
  metadata = safetensors.safe_open(path, 'numpy').metadata()
  tensors['some.row_offsets'][10] += 1
  safetensors.numpy.save_file(tensors, path, metadata)
  with jprune.io.open(path) as opened:
    with pytest.raises(ValueError, match=r"row offsets don't fit its bitmask\) at leaf 'some'"):
      opened.params['some'][1]
    opened.params['some'][3]


# -------------------------------------------------------------------------------- other tools


def foreign(folder, files, index=True, metadata=({'format': 'pt'},) * 9):
  folder.mkdir()
  for (name, tensors), texts in zip(files.items(), metadata):
    safetensors.numpy.save_file(tensors, folder / name, texts)
  if index:
    weight_map = {tensor: name for name, tensors in files.items() for tensor in tensors}
    text = json.dumps({'metadata': {'total_size': 9}, 'weight_map': weight_map})
    (folder / INDEX).write_text(text)
  return folder


def two(stem='model'):
  draw = lambda *shape: np.random.default_rng(0).standard_normal(shape).astype(ml_dtypes.bfloat16)
  return {
    f'{stem}-00001-of-00002.safetensors': {'h.0.w': draw(3, 4), 'h.0.b': np.ones(3, np.float16)},
    f'{stem}-00002-of-00002.safetensors': {'h.1.w': draw(4, 3), 'h.1.i': np.arange(3)},
  }


@pytest.mark.parametrize('how', ['folder', 'index', 'without', 'link'])
def test_a_foreign_folder(tmp_path, how):
  folder = foreign(tmp_path / 'x', two(), index=how != 'without')
  (folder / 'config.json').write_text('{}')
  if how == 'link':  # as in the cache of Hugging Face
    (tmp_path / 'blobs').mkdir()
    for name in os.listdir(folder):
      shutil.move(folder / name, tmp_path / 'blobs' / f'{name}.blob')
      (folder / name).symlink_to(tmp_path / 'blobs' / f'{name}.blob')
  with jprune.io.open(folder / INDEX if how == 'index' else folder) as opened:
    wanted = {name: x for tensors in two().values() for name, x in tensors.items()}
    assert list(opened.params) == sorted(wanted)
    for name, leaf in opened.params.items():
      assert leaf.dtype == wanted[name].dtype
      np.testing.assert_array_equal(leaf.read(), wanted[name])
    assert opened.masks is None
    assert opened.metadata == {'format': 'pt'}
    assert opened.shards == {str(folder / name): tuple(sorted(two()[name])) for name in two()}


def test_metadata_on_which_files_agree(tmp_path):
  texts = ({'format': 'pt', 'a': '1'}, {'format': 'pt', 'a': '2', 'b': '3'})
  with jprune.io.open(foreign(tmp_path / 'x', two(), metadata=texts)) as opened:
    assert opened.metadata == {'format': 'pt'}


def test_load_does_not_read_foreign_files(tmp_path):
  foreign(tmp_path / 'x', two())
  with pytest.raises(ValueError, match=r'that jprune.save wrote.*leaf by leaf with jprune.io.open'):
    load(tmp_path / 'x')


def test_folders_in_which_it_is_not_clear_what_is_meant(tmp_path):
  foreign(tmp_path / 'x', {**two(), **two('other')}, index=False)
  opens = lambda: jprune.io.open(tmp_path / 'x')
  with pytest.raises(ValueError, match=r"open: `path` must be one checkpoint; got .*'model-00001"):
    opens()
  os.unlink(tmp_path / 'x' / 'other-00002-of-00002.safetensors')
  os.unlink(tmp_path / 'x' / 'other-00001-of-00002.safetensors')
  opens().close()
  shutil.copy(tmp_path / 'x' / 'model-00001-of-00002.safetensors', tmp_path / 'x/z.safetensors')
  with pytest.raises(ValueError, match='one checkpoint'):
    opens()
  os.unlink(tmp_path / 'x' / 'z.safetensors')
  os.unlink(tmp_path / 'x' / 'model-00001-of-00002.safetensors')
  with pytest.raises(FileNotFoundError, match="without 'model-00001-of-00002.safetensors'"):
    opens()
  foreign(tmp_path / 'y', two())
  shutil.copy(
    tmp_path / 'y' / 'model-00001-of-00002.safetensors', tmp_path / 'y' / 'model.safetensors'
  )
  with pytest.raises(ValueError, match=f"one checkpoint; got .*'model.safetensors', '{INDEX}'"):
    jprune.io.open(tmp_path / 'y')
  shutil.copy(tmp_path / 'y' / INDEX, tmp_path / 'y' / f'b{INDEX}')
  with pytest.raises(ValueError, match=f"one checkpoint; got .*'b{INDEX}', '{INDEX}'"):
    jprune.io.open(tmp_path / 'y')
  (tmp_path / 'z').mkdir()
  with pytest.raises(ValueError, match='a checkpoint; got the folder .* or that of .* Orbax'):
    jprune.io.open(tmp_path / 'z')
  with pytest.raises(ValueError, match='holds no safetensors file.*is read by jprune.io.open'):
    load(tmp_path / 'z')
  with pytest.raises(FileNotFoundError, match='an existing file'):
    jprune.io.open(f'{tmp_path}/nowhere/')


def test_tensors_that_cannot_be_opened(tmp_path):
  safetensors.numpy.save_file({}, tmp_path / 'empty')
  with pytest.raises(ValueError, match='open: `path` must be a file with at least one tensor'):
    jprune.io.open(tmp_path / 'empty')
  safetensors.numpy.save_file({'': np.ones(2)}, tmp_path / 'unnamed')
  with pytest.raises(ValueError, match='open: `path` must be a file whose tensors have names'):
    jprune.io.open(tmp_path / 'unnamed')
  header = json.dumps({'w': {'dtype': 'F8_E8M0', 'shape': [2], 'data_offsets': [0, 2]}}).encode()
  (tmp_path / 'odd').write_bytes(struct.pack('<Q', len(header)) + header + b'ab')
  with pytest.raises(ValueError, match=r'of tensors of BF16, .*|complete safetensors file'):
    jprune.io.open(tmp_path / 'odd')


def test_scales_of_quantised_weights(tmp_path):
  tensors = {
    'q.weight': np.ones((4, 4), np.int8),
    'q.weight_scale': np.ones((4, 1), np.float32),
    'v.weight': np.ones((4, 4), ml_dtypes.float8_e4m3fn),
    'v.weight_scale_inv': np.ones((1, 1), np.float32),
    'norm.weight': np.ones(4, np.float32),
  }
  safetensors.numpy.save_file(tensors, tmp_path / 'x')
  with jprune.io.open(tmp_path / 'x') as opened:
    found = {path: leaf.path for path, leaf in opened.scales.items()}
  assert found == {'q.weight': 'q.weight_scale', 'v.weight': 'v.weight_scale_inv'}


# -------------------------------------------------------------------------------------- Orbax

TREE = {
  'params': {'w': jnp.arange(120.0).reshape(4, 5, 6), 'b': [jnp.ones(3, jnp.bfloat16)]},
  'zeros': jnp.zeros((2, 3)),
  'masks': {'w': jnp.arange(120).reshape(4, 5, 6) % 3 == 0, 'b': None},
  'count': jnp.array(3),
}


def saved_by(how, folder):
  if how == 'standard':
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(folder, TREE)
      checkpointer.wait_until_finished()
    return folder
  if how == 'manager':
    with ocp.CheckpointManager(folder) as manager:
      manager.save(3, args=ocp.args.StandardSave(TREE))
      manager.wait_until_finished()
    return folder / '3'
  options = {'zarr3': {'use_zarr3': True}, 'files': {'use_ocdbt': False}}[how]
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**options)) as checkpointer:
    checkpointer.save(folder, TREE)
  return folder


@pytest.mark.parametrize('how', ['standard', 'manager', 'zarr3', 'files'])
def test_orbax(tmp_path, how):
  folder = saved_by(how, tmp_path / 'x')
  with jprune.io.open(folder) as opened:
    assert jax.tree.structure(opened.params) == jax.tree.structure(TREE)
    jax.tree.map(lambda leaf, x: np.testing.assert_array_equal(leaf.read(), x), opened.params, TREE)
    for leaf, x in zip(jax.tree.leaves(opened.params), jax.tree.leaves(TREE), strict=True):
      assert (leaf.shape, leaf.dtype) == (x.shape, x.dtype)
    leaf, wanted = opened.params['params']['w'], np.asarray(TREE['params']['w'])
    for index in (1, (2, slice(1, 3)), (..., -1), slice(3, None, -2)):
      np.testing.assert_array_equal(leaf[index], wanted[index])
    assert leaf.path == 'params/w'
    assert opened.masks is None
    (held,) = opened.shards.values()
    assert 'masks/w' in held


def test_orbax_folders_that_are_no_checkpoint(tmp_path, monkeypatch):
  folder = saved_by('standard', tmp_path / 'x')
  with jprune.io.open(folder) as opened:
    for name in os.listdir(folder):
      if name == 'd' or name.startswith('ocdbt'):
        shutil.rmtree(folder / name)
    with pytest.raises(
      ValueError, match=r"open: `path` must be an undamaged .* at leaf 'params/w'"
    ):
      opened.params['params']['w'].read()
  (folder / '_METADATA').write_text('{')
  with pytest.raises(ValueError, match='open: `path` must be a checkpoint that Orbax can read'):
    jprune.io.open(folder)
  unfinished = saved_by('standard', tmp_path / 'y').rename(tmp_path / 'y.orbax-checkpoint-tmp')
  with pytest.raises(ValueError, match='a whole checkpoint; got .*Orbax has not finished'):
    jprune.io.open(unfinished)
  step = saved_by('manager', tmp_path / 'm')
  shutil.copytree(step / 'default', step / 'state')
  with pytest.raises(ValueError, match="one checkpoint; got the folder .*'default', 'state'"):
    jprune.io.open(step)
  monkeypatch.setitem(sys.modules, 'orbax.checkpoint', None)
  with pytest.raises(ImportError, match=r"open: needs orbax-checkpoint.*'jprune\[orbax\]'"):
    jprune.io.open(step / 'default')
