"""``report``: what the tally says, put together by layer, kind and sparsity."""

import json
import os
import re

import jax
import numpy as np
import pytest

import jprune
from jprune._cli import _report, main
from jprune.report import LeafTally, Tally, _bars, _page
from jprune.report._kinds import kinds, layer_of
from tests.cli.files import foreign, run


@pytest.fixture
def file(tmp_path):
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape, np.float32)
  params = {'model.embed_tokens.weight': draw(16, 8), 'model.norm.weight': np.ones(8, np.float32)}
  for i in (0, 2, 10):
    params[f'model.layers.{i}.self_attn.q_proj.weight'] = draw(8, 8)
    params[f'model.layers.{i}.mlp.up_proj.weight'] = draw(16, 8)
    params[f'model.layers.{i}.input_layernorm.weight'] = np.ones(8, np.float32)
  params['model.layers.2.mlp.up_proj.weight'][:8] = 0
  params['model.layers.10.self_attn.q_proj.weight'][:] = 0
  return foreign(tmp_path / 'in.safetensors', params)


KINDS = {
  'model.embed_tokens.weight': 'embedding',
  'transformer.wte.weight': 'embedding',
  'transformer.wpe.weight': 'position',
  'bert.embeddings.word_embeddings.weight': 'embedding',
  'lm_head.weight': 'head',
  'cls.predictions.transform.dense.weight': 'head',
  'classifier.weight': 'head',
  'model.layers.0.self_attn.q_proj.weight': 'attention',
  'transformer.h.0.attn.c_attn.weight': 'attention',
  'bert.encoder.layer.0.attention.output.dense.weight': 'attention',
  'Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel': 'attention',
  'model.layers.0.mlp.gate_proj.weight': 'mlp',
  'bert.encoder.layer.0.intermediate.dense.weight': 'mlp',
  'bert.encoder.layer.0.output.dense.weight': 'mlp',
  'Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel': 'mlp',
  'model.layers.0.block_sparse_moe.experts.7.w1.weight': 'expert',
  'model.layers.0.input_layernorm.weight': 'norm',
  'transformer.h.0.ln_1.weight': 'norm',
  'model.layers.0.self_attn.q_proj.bias': 'bias',
  'bn1.running_mean': 'state',
  'Dense_0/kernel': 'other matrix',
}


@pytest.mark.parametrize('path', sorted(KINDS))
def test_kinds_by_name(path):
  assert kinds([path], [(8, 8)]) == [KINDS[path]]


def test_kinds_by_shape():
  paths, shapes = ['layer1.0.conv1.weight', 'mlp/table', 'x'], [(8, 8, 3, 3), (8,), None]
  assert kinds(paths, shapes) == ['convolution', 'vector', 'vector']


@pytest.mark.parametrize(
  ('path', 'expected'),
  [
    ('model.layers.10.mlp.up_proj.weight', 'model.layers.10'),
    ('Transformer/encoderblock_3/MlpBlock_0/Dense_0/kernel', 'Transformer/encoderblock_3'),
    ('params/block2/fc1/kernel', 'params/block2'),
    ('stage1/ResBlock0/conv1/kernel', 'stage1/ResBlock0'),
    ('layer1.0.conv1.weight', 'layer1.0'),
    ('Dense_0/kernel', 'Dense_0'),
    ('layers/mlp/kernel', 'layers/mlp'),
    ('lm_head.weight', 'lm_head'),
    ('layers_0', 'layers_0'),
    ('w', 'w'),
  ],
)
def test_layers(path, expected):
  assert layer_of(path) == expected


def test_json(capsys, file):
  run('report', file, '--json')
  found = json.loads(capsys.readouterr().out)
  run('tally', file, '--json')
  tally = json.loads(capsys.readouterr().out)
  assert {name: found[name] for name in tally} == tally
  layers = {each['name']: (each['size'], each['nonzero']) for each in found['layers']}
  assert list(layers) == [
    'model.embed_tokens',
    *(f'model.layers.{i}' for i in (0, 2, 10)),
    'model.norm',
  ]
  assert layers['model.layers.2'] == (200, 136)
  sparse = {each['name']: each['sparsity'] for each in found['kinds']}
  assert sparse == {'mlp': 1 / 6, 'attention': 1 / 3, 'embedding': 0, 'norm': 0}
  counts = {each['name']: each['leaves'] for each in found['histogram'] if each['leaves']}
  assert counts == {'no zeros': 9, 'to 50 %': 1, 'to 100 %': 1}


def test_text(capsys, file):
  run('report', file)
  said = capsys.readouterr().out
  run('tally', file)
  assert said.startswith(capsys.readouterr().out)
  assert re.search(r'attention +█{10} +33.33% +192\n', said)
  assert re.search(r'model.layers.10 +█+\S? +32.00% +200\n', said)


def test_bars_of_plain_letters(monkeypatch):
  class Old:
    encoding = 'ascii'

  monkeypatch.setattr('sys.stdout', Old())
  assert _report._drawn(0.5).strip() == '#' * 15
  assert _report._drawn(1e-9).strip() == '#'
  assert _report._drawn(0.0).strip() == ''


def test_what_is_nearly_nothing_is_seen():
  assert [_report._drawn(x).strip() for x in (1e-9, 1 / 240, 1.0)] == ['▏', '▏', '█' * 30]


def row(path, size, nonzero):
  return LeafTally(path, (size,), 'float32', size, nonzero, 4 * size, 4 * size, 'dense')


def test_bounds_of_the_histogram():
  zeros = [0, 1, 100, 101, 300, 999, 1000]
  tally = Tally(tuple(row(f'w{i}', 1000, 1000 - z) for i, z in enumerate(zeros)))
  leaves = {bar.name: bar.leaves for bar in _bars.by_sparsity(tally) if bar.leaves}
  assert leaves == {'no zeros': 1, 'to 10 %': 2, 'to 20 %': 1, 'to 30 %': 1, 'to 100 %': 2}


@pytest.mark.parametrize('size', [64, 320, 1001, 2304, 4096])
def test_rounding_does_not_move_a_leaf_to_the_next_bar(size):
  for i in range(1, 11):
    leaf = row('w', size, size - round(i / 10 * size))
    (bar,) = (bar for bar in _bars.by_sparsity(Tally((leaf,))) if bar.leaves)
    assert bar.name == f'to {10 * i} %'


def test_many_layers_are_put_together():
  rows = [row(f'h.{i}.w', 10, i % 10) for i in range(2001)]
  bars = _bars.by_layer(Tally(tuple(rows)))
  assert [bar.name for bar in bars[:3]] == ['h.0', 'h.1', 'h.2']
  fewer = _bars.fewer(bars, 100)
  assert len(fewer) <= 100
  assert fewer[0].name == 'h.0 … h.20'
  assert sum(bar.nonzero for bar in fewer) == sum(row.nonzero for row in rows)


def test_page(tmp_path, capsys, file):
  run('report', file, '--html', tmp_path / 'page.html')
  out = tmp_path / 'page.html'
  said = capsys.readouterr().out
  assert said.startswith(f"Wrote '{out}', ")
  assert said.count('\n') == 1
  page = out.read_text('utf-8')
  assert page.startswith('<!doctype html>')
  assert '<h1>in.safetensors</h1>' in page
  assert 'width:33.33%' in page
  assert page.count('<tr>') >= 11
  assert not re.search(r'(src|href)=|@import|url\(|<script', page)  # nothing beside it
  assert out.stat().st_mode & 0o777 == file.stat().st_mode & 0o666


def test_a_small_model_says_what_it_was_shrunk_from(tmp_path, capsys):
  fn = lambda params, x: jax.nn.relu(x @ params['in']) @ params['out']
  keep = np.arange(6) % 3 > 0
  params = {'in': np.ones((4, 6), np.float32), 'out': np.ones((6, 2), np.float32)}
  masks = {'in': np.stack([keep] * 4), 'out': np.stack([keep] * 2, 1)}
  small = jprune.shrink(fn, params, masks, np.ones((1, 4), np.float32))
  jprune.save_shrunk(tmp_path / 'small', small)
  for command in ('tally', 'report'):
    run(command, tmp_path / 'small')
    assert capsys.readouterr().out.endswith(f'Shrunk. {small.plan}\n')
    run(command, tmp_path / 'small', '--json')
    assert json.loads(capsys.readouterr().out)['shrunk'] == {'size': 24, 'size_full': 36}
  run('report', tmp_path / 'small', '--html', tmp_path / 'page.html')
  page = (tmp_path / 'page.html').read_text('utf-8')
  assert small.plan._repr_html_() in page.partition('<h2>Shrunk</h2>')[2]
  for more in ([], ['--format', 'dense'], ['--max-shard-size', '40B']):  # pruned, and still small
    out = tmp_path / f'pruned{len(more)}{"".join(more)}'
    run('prune', tmp_path / 'small', out, '--sparsity', '.5', '--quiet', *more)
    again = jprune.load_shrunk(out, fn)
    assert again.plan == small.plan
    assert (again.params['in'] == 0).sum() == 8
  jprune.save(tmp_path / 'full', params, masks)
  run('report', tmp_path / 'full')
  assert 'Shrunk' not in capsys.readouterr().out


def test_page_and_json(tmp_path, capsys, file):
  run('report', file, '--html', tmp_path / 'page.html', '--json')
  assert 'layers' in json.loads(capsys.readouterr().out)
  assert (tmp_path / 'page.html').exists()


def test_a_page_shows_names_as_they_are(tmp_path):
  odd = foreign(tmp_path / '<b>.safetensors', {'<script>.0.w': np.ones((2, 2), np.float32)})
  run('report', odd, '--html', tmp_path / 'page.html')
  page = (tmp_path / 'page.html').read_text('utf-8')
  assert '&lt;b&gt;.safetensors' in page
  assert '&lt;script&gt;.0' in page
  assert '<script' not in page


def test_a_page_of_many_leaves():
  rows = tuple(row(f'model.layers.{i // 10}.x{i % 10}.weight', 100, i % 101) for i in range(10_000))
  page = _page.page(Tally(rows), 'large')
  assert page.count('class="row"') == 1000 + 1 + 11
  assert len(page) < 4e6


def test_refusals(tmp_path, capsys, file):
  def refused(*args):
    assert main(['report', *map(str, args)]) == 1
    said = capsys.readouterr()
    assert said.out == ''
    return said.err

  old = tmp_path / 'old.html'
  old.write_text('precious')
  said = refused(file, '--html', old)
  assert f"report: `--html` must be a new file; got '{old}', which exists. Pass --force" in said
  assert old.read_text() == 'precious'
  said = refused(file, '--html', file, '--force')
  assert '`--html` must be another file or folder than FILE; got' in said
  assert '`--html` must be in an existing folder' in refused(file, '--html', tmp_path / 'no' / 'x')
  assert "report: `FILE` must be an existing file; got '" in refused(tmp_path / 'nope')
  assert sorted(os.listdir(tmp_path)) == ['in.safetensors', 'old.html']
  run('report', file, '--html', old, '--force')
  assert 'precious' not in old.read_text('utf-8')
