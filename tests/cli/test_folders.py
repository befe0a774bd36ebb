"""A folder comes out of a folder: the same files, and what belongs beside them."""

import json
import os
import resource

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors
import safetensors.numpy

import jprune
from jprune._cli import _target, main
from tests.cli.files import assert_same, foreign, run, sharded, weights

INDEX = 'model.safetensors.index.json'
GLOBAL = ['--sparsity', '.7', '--distribution', 'global']
BESIDE = {
  'config.json': '{"model_type": "llama"}',
  'generation_config.json': '{}',
  'tokenizer.model': 'words',
}
NOT_COPIED = ['.cache', 'onnx', 'pytorch_model.bin', 'pytorch_model.bin.index.json']


@pytest.fixture
def params():
  return weights('bfloat16')


@pytest.fixture
def folder(tmp_path, params):
  folder = sharded(tmp_path / 'in', params, metadata={'format': 'pt', 'by': 'someone'})
  for name, text in BESIDE.items():
    (folder / name).write_text(text)
  (folder / 'tokenizer.model').chmod(0o600)
  for name in NOT_COPIED:
    (folder / name).write_text('') if name[0] == 'p' else (folder / name).mkdir()
  return folder


def pruned(params):
  params = jax.tree.map(jnp.asarray, params)
  return params, jprune.prune(params, 0.7, distribution=jprune.distributions.global_)


def headers(folder):
  """The header of each file by its name: what is in it, its metadata."""
  found = {}
  for path in sorted(folder.glob('*.safetensors')):
    with safetensors.safe_open(path, 'numpy') as file:
      found[path.name] = set(file.keys()), file.metadata()
  return found


def test_dense_is_the_same_model_with_zeros(tmp_path, capsys, folder, params):
  out = tmp_path / 'out'
  run('prune', folder, out, *GLOBAL, '--format', 'dense')
  said = capsys.readouterr().out
  assert f"Wrote '{out}', 3 files, " in said
  assert 'Copied beside it: config.json, generation_config.json, tokenizer.model.\n' in said
  assert f'Not copied: {", ".join(NOT_COPIED)}.\n' in said
  assert set(os.listdir(out)) == {*headers(folder), INDEX, *BESIDE}
  for name, text in BESIDE.items():
    assert (out / name).read_text() == text
  assert (out / 'tokenizer.model').stat().st_mode & 0o777 == 0o600
  before, after = headers(folder), headers(out)
  assert {name: keys for name, (keys, _) in after.items()} == {
    name: keys for name, (keys, _) in before.items()
  }
  assert all({'format': 'pt', 'by': 'someone'}.items() <= m.items() for _, m in after.values())
  one, two = (json.loads((each / INDEX).read_text()) for each in (folder, out))
  assert two['weight_map'] == one['weight_map']
  assert two['metadata'].items() >= one['metadata'].items()
  given, masks = pruned(params)
  for name, leaf in jprune.apply(given, masks).items():
    with safetensors.safe_open(out / two['weight_map'][name], 'flax') as file:
      found = file.get_tensor(name)
    assert found.dtype == leaf.dtype
    assert np.asarray(found).tobytes() == np.asarray(leaf).tobytes()
  loaded, none = jprune.load(out)
  assert none is None
  assert set(loaded) == set(params)


def test_sparse_keeps_the_files_too(tmp_path, folder, params):
  run('prune', folder, tmp_path / 'out', *GLOBAL, '--quiet')
  assert_same(tmp_path / 'out', *pruned(params))
  before, after = headers(folder), headers(tmp_path / 'out')
  for name, (keys, _) in before.items():
    assert {each for key in keys for each in after[name][0] if each.startswith(key)} == after[name][
      0
    ]
  run('prune', tmp_path / 'out', tmp_path / 'again', '--sparsity', '.8', '--quiet')
  given, masks = jprune.load(tmp_path / 'out')
  assert_same(tmp_path / 'again', given, jprune.prune(given, 0.8, masks=masks))


def test_files_of_another_size(tmp_path, folder, params):
  run('prune', folder, tmp_path / 'a', *GLOBAL, '--max-shard-size', '2KB', '--format', 'dense')
  sizes = [
    sum(leaf.nbytes for leaf in safetensors.numpy.load_file(path).values())
    for path in (tmp_path / 'a').glob('*.safetensors')
  ]
  assert len(sizes) > 3
  assert all(size <= 2000 or size in (leaf.nbytes for leaf in params.values()) for size in sizes)
  loaded, _ = jprune.load(tmp_path / 'a')
  given, masks = pruned(params)
  jax.tree.map(np.testing.assert_array_equal, loaded, jprune.apply(given, masks))
  one = foreign(tmp_path / 'one.safetensors', params, {'format': 'pt'})
  run('prune', one, tmp_path / 'b', *GLOBAL, '--max-shard-size', 1500, '--quiet')
  assert_same(tmp_path / 'b', given, masks)
  assert len(headers(tmp_path / 'b')) > 1
  assert set(os.listdir(tmp_path / 'b')) == {*headers(tmp_path / 'b'), INDEX}


def test_a_folder_of_one_file(tmp_path, params):
  (tmp_path / 'in').mkdir()
  foreign(tmp_path / 'in' / 'model.safetensors', params, {'format': 'pt'})
  (tmp_path / 'in' / 'config.json').write_text('{}')
  run('prune', tmp_path / 'in', tmp_path / 'out', *GLOBAL, '--format', 'dense', '--quiet')
  assert sorted(os.listdir(tmp_path / 'out')) == ['config.json', 'model.safetensors']
  found = safetensors.numpy.load_file(tmp_path / 'out' / 'model.safetensors')
  assert set(found) == set(params)


def test_a_folder_of_one_numbered_file_keeps_its_index(tmp_path, params):
  sharded(tmp_path / 'in', params, 1)
  run('prune', tmp_path / 'in', tmp_path / 'out', *GLOBAL, '--quiet')
  assert set(os.listdir(tmp_path / 'out')) == {'model-00001-of-00001.safetensors', INDEX}
  assert_same(tmp_path / 'out', *pruned(params))


def test_names_that_are_odd(tmp_path, params):
  """The index of a diffusion model, numbers as DeepSeek has them, and a set without an index."""
  folder = sharded(tmp_path / 'in', params)
  renamed = lambda name: name.replace('model', 'diffusion_model').replace('of-00003', 'of-000003')
  for path in list(folder.iterdir()):
    path.rename(folder / renamed(path.name))
  index = folder / 'diffusion_model.safetensors.index.json'
  index.write_text(renamed(index.read_text()))
  for _ in range(2):
    run('prune', folder, tmp_path / 'out', *GLOBAL, '--quiet', '--force')
    assert set(headers(tmp_path / 'out')) == set(headers(folder))
    assert_same(tmp_path / 'out', *pruned(params))
    index.unlink(missing_ok=True)


def test_several_files_of_jprune(tmp_path):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  params = {'a': [{'kernel': draw(8, 16), 'bias': draw(16)}, {'kernel': draw(16, 8)}]}
  jprune.save(tmp_path / 'in', params, max_shard_size=600)
  run('prune', tmp_path / 'in', tmp_path / 'out', *GLOBAL, '--quiet')
  assert_same(tmp_path / 'out', *pruned(params))
  some = sorted((tmp_path / 'in').glob('*.safetensors'))
  run('tally', *some)  # all of them: the index is read as well
  with pytest.raises(AssertionError):
    run('tally', *some[1:])


def test_a_folder_of_orbax(tmp_path):
  params = {'a': {'kernel': jnp.arange(64.0).reshape(8, 8)}, 'b': {'kernel': jnp.ones((8, 8))}}
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / 'in', params)
  run('prune', tmp_path / 'in', tmp_path / 'out', *GLOBAL, '--quiet')
  assert_same(tmp_path / 'out', *pruned(params))
  assert set(os.listdir(tmp_path / 'out')) == {*headers(tmp_path / 'out'), INDEX}


def test_json(tmp_path, capsys, folder):
  run('prune', folder, tmp_path / 'out', *GLOBAL, '--json')
  written = json.loads(capsys.readouterr().out)['written']
  names = sorted(headers(tmp_path / 'out'))
  assert written == {
    'path': str(tmp_path / 'out'),
    'format': 'sparse',
    'bytes': sum((tmp_path / 'out' / name).stat().st_size for name in names),
    'files': names,
    'copied': sorted(BESIDE),
    'skipped': NOT_COPIED,
  }


# ------------------------------------------------------------------------------------- refused


def refused(capsys, *args):
  """The one line on the standard error of a refused command."""
  assert main([str(arg) for arg in args]) == 1
  said = capsys.readouterr()
  assert 'Wrote' not in said.out
  assert said.err.count('\n') == 1
  return said.err


def contents(folder):
  return {
    path.relative_to(folder): path.read_bytes() for path in folder.rglob('*') if path.is_file()
  }


def test_outputs(tmp_path, capsys, folder, params):
  prune = lambda out, *more: refused(capsys, 'prune', folder, out, *GLOBAL, *more)
  before = contents(tmp_path)
  for same in (folder, f'{folder}/', folder / '..' / 'in'):
    assert '`OUT` must be another file or folder than IN' in prune(same, '--force')
  first = folder / 'model-00001-of-00003.safetensors'  # would go with the set that it belongs to
  said = refused(capsys, 'prune', first, folder, *GLOBAL, '--force', '--max-shard-size', '1GB')
  assert f"another file or folder than IN; got '{folder}'" in said
  assert contents(tmp_path) == before
  (tmp_path / 'file').write_text('precious')
  said = prune(tmp_path / 'file', '--force')
  assert f"`OUT` must be a folder for several files; got '{tmp_path / 'file'}', the name of" in said
  said = prune(tmp_path / 'x.safetensors', '--max-shard-size', '1GB')
  assert 'ends with .safetensors is one file, without --max-shard-size.\n' in said
  files = sorted(folder.glob('*.safetensors'))  # as with a glob, when OUT is forgotten
  said = refused(capsys, 'prune', *files, *GLOBAL, '--force')
  assert f"`OUT` must be outside of the folder of IN; got '{files[-1]}'. Name OUT last" in said
  assert '`OUT` must be outside of' in prune(folder / 'model.safetensors')  # as which it is read
  assert '`OUT` must be in an existing folder' in prune(tmp_path / 'no' / 'out')
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other' / 'config.json').write_text('{}')
  assert '`OUT` must be a new file; got ' in prune(tmp_path / 'other')
  foreign(tmp_path / 'other' / 'model.safetensors', params)
  assert "which holds 'model.safetensors' of no index" in prune(tmp_path / 'other', '--force')
  assert (tmp_path / 'other' / 'config.json').read_text() == '{}'
  (tmp_path / 'orbax').mkdir()
  (tmp_path / 'orbax' / '_METADATA').write_text('{}')
  assert "which holds '_METADATA' of no index" in prune(tmp_path / 'orbax', '--force')
  single = tmp_path / 'single'
  single.mkdir()
  foreign(single / 'weights.safetensors', params, {'format': 'pt'})
  said = refused(capsys, 'prune', single, tmp_path / 'other', *GLOBAL, '--force')
  assert f"without other weights; got '{tmp_path / 'other'}', which holds 'model.safetens" in said
  said = refused(capsys, 'prune', single, tmp_path / 'orbax', *GLOBAL, '--force')
  assert "which holds '_METADATA'" in said
  assert contents(tmp_path).items() >= before.items()


@pytest.mark.parametrize('when', ['first', 'last', 'copy'])
@pytest.mark.parametrize('is_new', [True, False])
def test_what_fails_midway_leaves_nothing(tmp_path, capsys, monkeypatch, folder, when, is_new):
  out = tmp_path / 'out'
  if not is_new:
    run('prune', folder, out, '--sparsity', '.3', '--max-shard-size', 1000, '--quiet')
    (out / 'config.json').write_text('old')
    (out / 'generation_config.json').unlink()
  before, put, count = contents(tmp_path), _target._put, []

  def failing(*args):
    count.append(0)
    if when != 'copy' and len(count) == (1 if when == 'first' else 8):
      raise KeyboardInterrupt
    put(*args)

  def copying(read, write):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(_target, '_put', failing)
  if when == 'copy':
    monkeypatch.setattr('shutil.copyfileobj', copying)
  code = main(['prune', str(folder), str(out), '--sparsity', '.5', '--force', '--quiet'])
  said = capsys.readouterr().err
  assert (code, said.count('\n')) == ((1, 1) if when == 'copy' else (130, 1))
  assert ('No space left on device' if when == 'copy' else 'interrupted') in said
  assert contents(tmp_path) == before
  assert out.exists() != is_new


def test_a_disk_that_is_full(tmp_path, capsys, folder):
  before, (soft, hard) = contents(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
  try:
    said = refused(capsys, 'prune', folder, tmp_path / 'out', *GLOBAL, '--quiet')
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert f"a file that can be written; got '{tmp_path / 'out'}' (File too large). Make" in said
  assert contents(tmp_path) == before
  assert os.listdir(tmp_path) == ['in']


def test_another_set_is_replaced(tmp_path, folder, params):
  out = tmp_path / 'out'
  run('prune', folder, out, '--sparsity', '.3', '--max-shard-size', 1000, '--quiet')
  (out / 'config.json').write_text('old')
  (out / 'notes.txt').write_text('mine')
  run('prune', folder, out, *GLOBAL, '--force', '--quiet')
  assert_same(out, *pruned(params))
  assert set(os.listdir(out)) == {*headers(folder), INDEX, *BESIDE, 'notes.txt'}
  assert (out / 'config.json').read_text() == BESIDE['config.json']
