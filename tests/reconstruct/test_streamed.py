"""Models that are pruned from one checkpoint into another, against the same in memory."""

import functools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune import reconstruct
from tests.reconstruct.test_one_pass import HOW, decoder, draw, scanned, stacked, unrolled


@pytest.fixture(scope='module')
def batches():
  rng = np.random.default_rng(1)
  return [jnp.asarray(rng.integers(0, 11, size=(rows, 6))) for rows in (4, 4, 3)]


def save(path, params, size=3000):
  os.mkdir(path)
  jprune.save(path, params, max_shard_size=size)


def check_same(found, expected):
  params = jax.tree.map(lambda leaf: leaf.read(), found[0].params)
  masks = jprune.masks.unpack(found[1])
  assert jax.tree.structure(params) == jax.tree.structure(expected[0])
  for one, other in zip(
    jax.tree.leaves((params, masks)), jax.tree.leaves(expected[:2]), strict=True
  ):
    np.testing.assert_array_equal(one, other)
  assert found[2].rows == expected[2].rows


@pytest.mark.parametrize(
  ('fn', 'of'),
  [
    (unrolled, lambda params: params),
    (scanned, stacked),
    (functools.partial(scanned, axis=1), functools.partial(stacked, axis=1)),
    (functools.partial(scanned, axis=-1), functools.partial(stacked, axis=-1)),
  ],
  ids=['unrolled', 'scan', 'along axis 1', 'along the last axis'],
)
@pytest.mark.parametrize('pattern', [None, jprune.NOfM(2, 4)], ids=['half', '2 of 4'])
def test_the_same_as_in_memory(fn, of, pattern, batches, tmp_path):
  params = of(decoder(2))
  how = HOW if pattern is None else {**HOW, 'sparsity': None, 'pattern': pattern, 'where': 'layers'}
  if pattern is not None and fn is not unrolled:
    how |= {'pattern': jprune.NOfM(2, 4, axis=None)}
  expected = reconstruct.prune(fn, params, batches, **how)
  save(tmp_path / 'dense', params)
  with jprune.io.open(tmp_path / 'dense') as model:
    found = reconstruct.prune(
      fn, model, iter(batches), out=tmp_path / 'sparse', max_shard_size=2000, **how
    )
  with found[0]:
    check_same(found, expected)
    assert len(found[0].shards) > 2
  save(tmp_path / 'again', expected[0])  # what others made of it, too
  assert jprune.load(tmp_path / 'sparse')[0]['table'].shape == (11, 8)


def test_a_leaf_at_two_places_and_one_that_no_batch_uses(tmp_path):
  def fn(params, x):
    x = jnp.tanh(x @ params['a'])
    x = jax.lax.cond(x[0, 0] > 2, lambda x: x @ params['never'], lambda x: x @ params['b'], x)
    step = lambda x, w: (jax.lax.cond(x[0, 0] > 9, lambda x: x @ w, jnp.tanh, x), None)
    x = jax.lax.scan(step, x, params['steps'])[0]
    return jnp.tanh(x @ params['a']) @ params['c']

  params = {name: draw(8, 8, seed=i) for i, name in enumerate(('a', 'b', 'c', 'never'))}
  params |= {'steps': draw(3, 8, 8, seed=7), 'idle': jnp.arange(3)}
  x = draw(20, 8, seed=8)
  expected = reconstruct.prune(fn, params, [x], **HOW)
  save(tmp_path / 'dense', params)
  with jprune.io.open(tmp_path / 'dense') as model:
    found = reconstruct.prune(fn, model, [x], out=tmp_path / 'sparse', **HOW)
  with found[0]:
    check_same(found, expected)
  assert dict(found[2].skipped) == dict(expected[2].skipped)
  assert {'never', 'steps'} < set(dict(found[2].skipped))


def test_nothing_is_written_unless_all_is(batches, tmp_path):
  save(tmp_path / 'dense', decoder(1))
  count = []

  def failing(*args, **kwargs):
    count.append(1)
    if len(count) > 2:
      raise RuntimeError('no')
    return reconstruct.sparsegpt(*args, **kwargs)

  with jprune.io.open(tmp_path / 'dense') as model, pytest.raises(RuntimeError, match='no'):
    reconstruct.prune(
      unrolled, model, batches, out=tmp_path / 'out', method=failing, cache_dir=tmp_path, **HOW
    )
  assert [path.name for path in tmp_path.iterdir()] == ['dense']


@pytest.mark.parametrize(
  ('how', 'error', 'message'),
  [
    ({'out': None}, TypeError, r'`out` must be a folder for params of a checkpoint; got None'),
    ({'sequential': False}, ValueError, r'`sequential` must be True for a checkpoint; got False'),
    ({'masks': {}}, ValueError, r'`masks` must be None for a checkpoint'),
    (
      {'distribution': jprune.distributions.global_},
      ValueError,
      r'`distribution` must be one that looks at shapes alone, for a checkpoint; got global_',
    ),
    ({'max_shard_size': 'huge'}, ValueError, r'`max_shard_size` must be'),
  ],
  ids=['out', 'sequential', 'masks', 'distribution', 'max_shard_size'],
)
def test_bad_input(how, error, message, batches, tmp_path):
  save(tmp_path / 'dense', decoder(1))
  with (
    jprune.io.open(tmp_path / 'dense') as model,
    pytest.raises(error, match=r'reconstruct\.prune: ' + message),
  ):
    reconstruct.prune(unrolled, model, batches, **{**HOW, 'out': tmp_path / 'out', **how})
  assert [path.name for path in tmp_path.iterdir()] == ['dense']


def test_several_processes_write_no_checkpoint(batches, tmp_path, monkeypatch):
  save(tmp_path / 'dense', decoder(1))
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with (
    jprune.io.open(tmp_path / 'dense') as model,
    pytest.raises(ValueError, match=r'`params` must be arrays .* Checkpoint in one of 2\. Read'),
  ):
    reconstruct.prune(unrolled, model, batches, out=tmp_path / 'out', **HOW)
  assert [path.name for path in tmp_path.iterdir()] == ['dense']


def test_out_is_of_a_checkpoint(batches, tmp_path):
  with pytest.raises(
    TypeError, match=r'`out` must be None for params in memory; got .*jprune.save'
  ):
    reconstruct.prune(unrolled, decoder(1), batches, out=tmp_path / 'out', **HOW)


@pytest.mark.skipif(sys.platform != 'linux', reason='limits of memory are those of Linux')
def test_twelve_layers_in_less_memory_than_they_take(tmp_path):
  """Peaks hardly grow with the layers, and all of them wouldn't fit."""
  run = subprocess.run(
    [sys.executable, '-m', 'tests.reconstruct.streamed_memory', str(tmp_path), '4'],
    env={**os.environ, 'MALLOC_ARENA_MAX': '1', 'MALLOC_MMAP_THRESHOLD_': '65536'},
    stdout=subprocess.PIPE,
    check=True,
    timeout=900,
  )
  found = json.loads(run.stdout)
  assert found['all at once'] == 'refused'
  assert found['same weights']
  assert found['same masks']
  few, many = found['4'], found['12']
  assert many['peak'] - few['peak'] < (many['params'] - few['params']) / 3


def test_what_belongs_to_the_model_goes_with_it(batches, tmp_path):
  save(tmp_path / 'dense', decoder(1))
  (tmp_path / 'dense/config.json').write_text('{"layers": 1}')
  (tmp_path / 'dense/pytorch_model.bin').write_text('weights again')
  index = tmp_path / 'dense/model.safetensors.index.json'
  contents = json.loads(index.read_text())
  contents['metadata']['total_parameters'] = 7
  index.write_text(json.dumps(contents))
  with jprune.io.open(tmp_path / 'dense') as model:
    reconstruct.prune(unrolled, model, batches, out=tmp_path / 'sparse', **HOW)[0].close()
  assert (tmp_path / 'sparse/config.json').read_text() == '{"layers": 1}'
  assert not (tmp_path / 'sparse/pytorch_model.bin').exists()
  written = json.loads((tmp_path / 'sparse' / index.name).read_text())
  assert written['metadata']['total_parameters'] == 7
