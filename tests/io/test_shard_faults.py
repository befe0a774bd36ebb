"""Sets of files that are damaged, incomplete or of several saves: each fault is said once."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import jprune
from jprune.io import load, save
from tests.io.test_shards import INDEX, MASKS, PARAMS


@pytest.fixture
def folder(tmp_path):
  save(tmp_path / 'set', PARAMS, MASKS, max_shard_size=150)
  return tmp_path / 'set'


def index_of(folder):
  return json.loads((folder / INDEX).read_bytes())


def reindexed(folder, change):
  index = index_of(folder)
  change(index)
  (folder / INDEX).write_text(json.dumps(index))


def moved(index):
  """A tensor that another file holds."""
  index['weight_map']['a/b'] = 'model-00003-of-00003.safetensors'


def recast(folder):
  """A file of another save, of other dtypes."""
  tensors = safetensors.numpy.load_file(folder / LAST)
  own = safetensors.safe_open(folder / LAST, 'numpy').metadata()
  other = {name: x.astype(np.float16) for name, x in tensors.items() if x.dtype == np.float32}
  assert other
  safetensors.numpy.save_file({**tensors, **other}, folder / LAST, own)


def other_values(folder):
  """A file of another save, of other values."""
  name = 'model-00002-of-00003.safetensors'
  other = {**PARAMS, 'i': PARAMS['i'] + 1, 'l': [PARAMS['l'][0] * 2, None]}
  save(folder.parent / 'other', other, MASKS, max_shard_size=150)
  shutil.copy(folder.parent / 'other' / name, folder / name)


def truncated(folder):
  name = folder / 'model-00002-of-00003.safetensors'
  name.write_bytes(name.read_bytes()[:-9])


def doubled(folder):
  index = index_of(folder)
  second = sorted(set(index['weight_map'].values()))[1]
  tensors = safetensors.numpy.load_file(folder / second)
  own = dict(safetensors.safe_open(folder / second, 'numpy').metadata())
  tensors['a/b'] = np.ones(3, np.float32)
  safetensors.numpy.save_file(tensors, folder / second, own)


LAST = 'model-00003-of-00003.safetensors'
FAULTS = {
  'missing': (lambda f: (f / LAST).unlink(), FileNotFoundError, f"whole check.*without '{LAST}'"),
  'truncated': (truncated, ValueError, "complete safetensors file; got '.*model-00002-of-00003"),
  'unnamed': (
    lambda f: reindexed(f, lambda i: i['weight_map'].pop('a/b')),
    ValueError,
    r"fits its files.*'model-00001-of-00003.safetensors' holds 'a/b', which the index does not",
  ),
  'not there': (
    lambda f: reindexed(f, lambda i: i['weight_map'].update(z=LAST)),
    ValueError,
    f"fits its files.*'{LAST}' lacks 'z'. Index and files are of different saves",
  ),
  'moved': (lambda f: reindexed(f, moved), ValueError, r"fits its files.*holds 'a/b'"),
  'double': (doubled, ValueError, r"each tensor once.*'model-00001-of.*-00002-.*both hold.*'a/b'"),
  'no JSON': (lambda f: (f / INDEX).write_text('{"w'), ValueError, 'an index of safetensors files'),
  'empty': (lambda f: (f / INDEX).write_text(''), ValueError, 'an index of safetensors files'),
  'a list': (lambda f: (f / INDEX).write_text('[]'), ValueError, 'an index of safetensors files'),
  'no tensors': (
    lambda f: reindexed(f, lambda i: i['weight_map'].clear()),
    ValueError,
    'its weight_map is no object with tensors',
  ),
  'no text': (
    lambda f: reindexed(f, lambda i: i['weight_map'].update(z=3)),
    ValueError,
    "tensor 'z' is in 3",
  ),
  'a key twice': (
    lambda f: (f / INDEX).write_text('{"weight_map": {"w": "x", "w": "x"}}'),
    ValueError,
    'it has a key twice',
  ),
  'another checksum': (
    lambda f: reindexed(f, lambda i: i['metadata'].update(jprune_crc32='0')),
    ValueError,
    'its metadata has another checksum',
  ),
  'no index': (lambda f: (f / INDEX).unlink(), ValueError, 'whole checkpoint.*index is missing'),
  'other dtypes': (recast, ValueError, r"undamaged file.*tensor 'l/0.*' is F16.*at leaf 'l/0'"),
  'other values': (other_values, ValueError, r"-00002-of.*another checksum\) at leaf 'i|l/0'"),
}


def read_all(folder):
  with jprune.io.open(folder) as opened:
    return [leaf.read() for leaf in jax.tree.leaves(opened.params)]


@pytest.mark.parametrize('fault', sorted(FAULTS))
def test_faults(folder, fault):
  change, error, match = FAULTS[fault]
  change(folder)
  with pytest.raises(error, match='load: `path` must be .*(' + match + ')'):
    load(folder)
  with pytest.raises(error, match='open: `path` must be .*(' + match + ')'):
    read_all(folder)


@pytest.mark.parametrize(
  'name',
  ['../x.safetensors', '/x.safetensors', 'a\\x.safetensors', '..', '', 'x.bin', 'x\0.safetensors'],
)
def test_an_index_names_files_beside_it(folder, name):
  shutil.copy(folder / LAST, folder.parent / 'x.safetensors')
  reindexed(folder, lambda index: index['weight_map'].update(dict.fromkeys(['l/0'], name)))
  with pytest.raises(
    ValueError, match=r"an index of .*'l/0' is in .*no safetensors file beside it"
  ):
    load(folder)


def test_one_of_several_is_no_checkpoint(folder):
  with pytest.raises(
    ValueError, match=f"a whole checkpoint; got .*one file of several, '{LAST}'. Pass"
  ):
    load(folder / LAST)
  with pytest.raises(ValueError, match='a whole checkpoint'):
    jprune.io.open(folder / LAST)


def test_another_model(folder):
  with pytest.raises(ValueError, match=r"load: `like` must be a tree with.*unknown leaf 'z'"):
    load(folder, like={**PARAMS, 'z': jnp.ones(3)})
  with pytest.raises(ValueError, match=r"int32 of shape \(500,\), as in.*at leaf 'i'"):
    load(folder, like={**PARAMS, 'i': jnp.arange(400)})
