"""What a command may be given for a checkpoint: a file, a folder, an index, a glob, several."""

import json
import os

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import jprune
from jprune._cli import main
from tests.cli.files import assert_same, foreign, run, sharded, weights

INDEX = 'model.safetensors.index.json'
GLOBAL = {'distribution': jprune.distributions.global_}


@pytest.fixture
def folder(tmp_path):
  return sharded(tmp_path / 'in', weights('bfloat16'), metadata={'format': 'pt'})


def as_jax(params):
  return jax.tree.map(jnp.asarray, params)


NAMED = {
  'folder': lambda folder: [folder],
  'folder/': lambda folder: [f'{folder}/'],
  'index': lambda folder: [folder / INDEX],
  'glob': lambda folder: [folder / '*.safetensors'],
  'files': lambda folder: sorted(folder.glob('*.safetensors')),
  'glob of a folder': lambda folder: [folder.with_name('i[n]')],
}


@pytest.mark.parametrize('named', sorted(NAMED))
def test_one_threshold_over_all_files(tmp_path, capsys, folder, named):
  given, params = NAMED[named](folder), as_jax(weights('bfloat16'))
  run('tally', *given)
  assert capsys.readouterr().out == f'{jprune.tally(params)}\n'
  out = tmp_path / 'out.safetensors'
  run('prune', *given, out, '--sparsity', 0.7, '--distribution', 'global', '--quiet')
  assert_same(out, params, jprune.prune(params, 0.7, **GLOBAL))


def test_numbered_files_without_an_index(tmp_path, capsys, folder):
  os.unlink(folder / INDEX)
  run('tally', folder)
  first = sorted(folder.glob('*.safetensors'))[:2]
  run('tally', *first)  # a part of a model is what was asked for
  assert 'total, 6 leaves' in capsys.readouterr().out
  os.unlink(first[0])
  said = refused(capsys, 'tally', folder)
  assert "without 'model-00001-of-00003.safetensors'. Copy the missing file there" in said


def nested():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return {'b': {'kernel': draw(8, 16), 'bias': draw(16)}, 'a': {'kernel': draw(4, 8)}}


def test_a_folder_of_orbax(tmp_path, capsys):
  params = nested()
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / 'in', params)
  run('tally', tmp_path / 'in')
  assert capsys.readouterr().out == f'{jprune.tally(params)}\n'
  out = tmp_path / 'out.safetensors'
  run('prune', tmp_path / 'in', out, '--sparsity', 0.7, '--distribution', 'global', '--quiet')
  assert_same(out, params, jprune.prune(params, 0.7, **GLOBAL))
  run('prune', tmp_path / 'in', out, '--n-of-m', '2:4', '--force')
  assert '2:4 along axis -2 (a checkpoint of Orbax), magnitude: 2 of 3' in capsys.readouterr().out
  assert_same(out, params, jprune.prune(params, pattern=jprune.NOfM(2, 4)))


def test_a_file_of_flax(tmp_path, capsys):
  params = nested()
  (tmp_path / 'in.msgpack').write_bytes(flax.serialization.to_bytes(params))
  run('tally', tmp_path / 'in.msgpack')
  assert capsys.readouterr().out == f'{jprune.tally(params)}\n'
  out = tmp_path / 'out.safetensors'
  run('prune', tmp_path / 'in.msgpack', out, '--n-of-m', '2:4')
  assert '2:4 along axis -2 (a file of Flax), magnitude: 2 of 3' in capsys.readouterr().out
  assert_same(out, params, jprune.prune(params, pattern=jprune.NOfM(2, 4)))


def test_a_file_of_numpy(tmp_path, capsys):
  params = {
    f'{a}/{b}': np.asarray(leaf) for a, each in nested().items() for b, leaf in each.items()
  }
  np.savez(tmp_path / 'in.npz', **params)
  (tmp_path / 'in.npz').chmod(0o600)
  params = as_jax(params)
  run('tally', tmp_path / '*.npz')
  assert capsys.readouterr().out == f'{jprune.tally(params)}\n'
  out = tmp_path / 'out.safetensors'
  run('prune', tmp_path / 'in.npz', out, '--sparsity', 0.7, '--distribution', 'global', '--quiet')
  assert_same(out, params, jprune.prune(params, 0.7, **GLOBAL))
  assert out.stat().st_mode & 0o777 == 0o600
  run('prune', tmp_path / 'in.npz', tmp_path / 'folder', '--sparsity', 0.5, '--max-shard-size', 300)
  assert_same(tmp_path / 'folder', params, jprune.prune(params, 0.5))
  said = refused(capsys, 'prune', tmp_path / 'in.npz', out, '--n-of-m', '2:4', '--force')
  assert 'got none for a file that names no format. Pass --axis' in said


# ------------------------------------------------------------------------------------- refused


def refused(capsys, *args):
  """The one line on the standard error of a refused command."""
  assert main([str(arg) for arg in args]) == 1
  said = capsys.readouterr()
  assert said.err.count('\n') == 1
  return said.err


def edited(folder, change):
  index = json.loads((folder / INDEX).read_text())
  change(index['weight_map'])
  (folder / INDEX).write_text(json.dumps(index))


FAULTS = {
  'truncated shard': (
    lambda folder, first: os.truncate(folder / first, 900),
    "must be a complete safetensors file; got '",
  ),
  'missing shard': (
    lambda folder, first: os.unlink(folder / first),
    "without 'model-00001-of-00003.safetensors'. Copy the missing file there",
  ),
  'one tensor twice': (
    lambda folder, first: foreign(folder / first, weights('bfloat16')),
    "both hold tensor '",
  ),
  'another save': (
    lambda folder, first: foreign(folder / first, {'other': np.ones((2, 2))}),
    "whose file 'model-00001-of-00003.safetensors' lacks '",
  ),
  'damaged index': (
    lambda folder, first: (folder / INDEX).write_text('{"weight_map": {"w": 1}}'),
    "must be an index of safetensors files; got '",
  ),
  'index elsewhere': (
    lambda folder, first: edited(folder, lambda names: names.update(odd='../x.safetensors')),
    "(tensor 'odd' is in '../x.safetensors', which is no safetensors file beside it)",
  ),
  'no index at all': (
    lambda folder, first: (folder / INDEX).write_bytes(b'\0\1'),
    "must be an index of safetensors files; got '",
  ),
  'two models': (
    lambda folder, first: foreign(folder / 'model.safetensors', {'w': np.ones((2, 2))}),
    "must be one checkpoint; got the folder '",
  ),
}


@pytest.mark.parametrize('fault', sorted(FAULTS))
def test_faults(tmp_path, capsys, folder, fault):
  spoil, words = FAULTS[fault]
  spoil(folder, 'model-00001-of-00003.safetensors')
  assert words in refused(capsys, 'tally', folder)
  said = refused(capsys, 'prune', folder, tmp_path / 'out', '--sparsity', '.5', '--quiet')
  assert 'prune: `IN` must be ' in said
  assert words in said
  assert os.listdir(tmp_path) == ['in']


def test_pickles_come_with_what_converts_them(tmp_path, capsys):
  (tmp_path / 'a.pt').write_bytes(b'\x80\x02')
  assert main(['prune', f'{tmp_path}/a.pt', f'{tmp_path}/out', '--sparsity', '.5']) == 1
  first, *lines = capsys.readouterr().err.splitlines()
  assert first.startswith('jprune: error: prune: `IN` must be a checkpoint of safetensors, .npz, ')
  assert first.endswith("/a.pt', a pickle of PyTorch. Convert it first:")
  assert [line[:12] for line in lines] == ['    import t', '    saved = ', '    st.save_']
  assert f"torch.load('{tmp_path}/a.pt', map_location='cpu', weights_only=True)" in lines[1]
  assert os.listdir(tmp_path) == ['a.pt']


@pytest.mark.parametrize('name', ['out.npz', 'out.msgpack', 'out.pt', 'out.BIN', 'out.gguf'])
def test_outputs_of_other_formats(tmp_path, capsys, folder, name):
  said = refused(capsys, 'prune', folder, tmp_path / name, '--sparsity', '.5')
  assert 'prune: `OUT` must be a safetensors file or a folder; got ' in said
  assert said.endswith("End it with '.safetensors'.\n")


def test_a_damaged_file_among_others(tmp_path, capsys):
  np.savez(tmp_path / 'in.npz', w=np.array([{}], object))
  said = refused(capsys, 'tally', tmp_path / 'in.npz')
  assert "`FILE` must be a file of arrays of numbers; got '" in said
  (tmp_path / 'in.msgpack').write_bytes(flax.serialization.msgpack_serialize({'a': 'text'}))
  said = refused(capsys, 'tally', tmp_path / 'in.msgpack')
  assert "`FILE` must be a checkpoint of arrays; got str at leaf 'a'. Save" in said
  said = refused(capsys, 'tally', tmp_path / 'in.*')
  assert "`FILE` must be one model; got '" in said


def test_files_that_are_no_checkpoint(tmp_path, capsys, folder):
  other = foreign(tmp_path / 'a.safetensors', {'w': np.ones((2, 2))})
  some = folder / 'model-00001-of-00003.safetensors'
  said = refused(capsys, 'tally', some, other)
  assert "tally: `FILE` must be files of one folder; got those of '" in said
  said = refused(capsys, 'tally', folder / '*')
  assert f"`FILE` must be one model; got '{folder / INDEX}' among others. Pass one folder" in said
  assert f"one model; got '{folder}' among others" in refused(capsys, 'tally', other, folder)
  assert "an existing file; got '" in refused(capsys, 'tally', folder / 'nope*')
  assert "an existing file; got '" in refused(capsys, 'tally', f'{tmp_path}/nope/')
  odd = foreign(tmp_path / 'b.safetensors', {'': np.ones((2, 2)), 'params': np.ones((2, 2))})
  said = refused(capsys, 'prune', odd, tmp_path / 'out', '--sparsity', '.5')
  assert "`IN` must be a file whose tensors have names; got '" in said
