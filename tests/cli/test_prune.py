"""The file that comes out holds what jprune.prune makes of the file that went in."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import jprune
from jprune._cli import _count, _scores, _select
from jprune.scores._random import _word
from tests.cli.files import assert_same, foreign, own, run, weights

DISTRIBUTIONS = {
  'uniform': jprune.distributions.uniform,
  'erk': jprune.distributions.erk,
  'er': jprune.distributions.er,
  'global': jprune.distributions.global_,
}


@pytest.fixture
def small_chunks(monkeypatch):
  """Several chunks in every leaf, the last one shorter."""
  monkeypatch.setattr(_scores, 'CHUNK', 100)


def as_jax(params):
  return jax.tree.map(jnp.asarray, params)


@pytest.mark.usefixtures('small_chunks')
@pytest.mark.parametrize('sparsity', [0.0, 0.5, 0.93, 1.0])
@pytest.mark.parametrize('distribution', sorted(DISTRIBUTIONS))
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16', 'float8_e4m3fn'])
def test_same_as_in_memory(tmp_path, dtype, distribution, sparsity):
  params = weights(dtype)
  if dtype == 'float8_e4m3fn':  # it has no infinity
    del params['odd']
  elif distribution != 'uniform':
    params['odd'] = params['odd'][:, :6]
  into = foreign(tmp_path / 'in', params) if dtype[:6] != 'float8' else own(tmp_path / 'in', params)
  run('prune', into, tmp_path / 'out', '--sparsity', sparsity, '--distribution', distribution)
  params = as_jax(params)
  masks = jprune.prune(params, sparsity, distribution=DISTRIBUTIONS[distribution])
  assert_same(tmp_path / 'out', params, masks)


def test_float64_is_ranked_as_float32(tmp_path):
  # as jprune.scores.magnitude ranks it: what float32 can't tell apart is a tie
  wide = np.array([[1.0, 1.0 + 1e-12, 1e300, 1e301], [0.5, 2.0, 3.0, -1.0 - 1e-12]])
  into = foreign(tmp_path / 'in', {'w': wide})
  run('prune', into, tmp_path / 'out', '--sparsity', 0.5)
  with jax.enable_x64(True):
    params = {'w': jnp.asarray(wide)}
    assert_same(tmp_path / 'out', params, jprune.prune(params, 0.5))


@pytest.mark.usefixtures('small_chunks')
@pytest.mark.parametrize(('n', 'm', 'axis'), [(2, 4, 1), (1, 4, -2), (3, 4, 0), (1, 2, -1)])
def test_n_of_m(tmp_path, n, m, axis):
  params = {name: leaf for name, leaf in weights('float32').items() if name[:6] == 'layers'}
  params['conv'] = np.random.default_rng(1).normal(size=(8, 4, 4, 8)).astype(np.float32)
  into = foreign(tmp_path / 'in', params)
  run('prune', into, tmp_path / 'out', '--n-of-m', f'{n}:{m}', '--axis', axis)
  params = as_jax(params)
  assert_same(tmp_path / 'out', params, jprune.prune(params, pattern=jprune.masks.NOfM(n, m, axis)))


@pytest.mark.usefixtures('small_chunks')
@pytest.mark.parametrize('shape', [(7, 9), (2, 7, 3), (1, 130, 2), (103,), (2, 3, 150)])
@pytest.mark.parametrize('axis', [0, -1])
def test_n_of_m_with_smaller_last_groups(tmp_path, shape, axis):
  params = {'w': np.random.default_rng(0).normal(size=shape).astype(np.float32)}
  into = foreign(tmp_path / 'in', params)
  more = ['--pad', '--where', 'w', '--axis', axis]
  run('prune', into, tmp_path / 'out', '--n-of-m', '2:4', *more)
  params = as_jax(params)
  pattern = jprune.masks.NOfM(2, 4, axis, pad=True)
  assert_same(tmp_path / 'out', params, jprune.prune(params, pattern=pattern, where=['w']))


@pytest.mark.parametrize('distribution', ['uniform', 'global'])
def test_random(tmp_path, distribution):
  params = weights('bfloat16')
  into = foreign(tmp_path / 'in', params)
  run(
    *('prune', into, tmp_path / 'out', '--sparsity', 0.3, '--scorer', 'random', '--seed', 7),
    *('--distribution', distribution),
  )
  params = as_jax(params)
  masks = jprune.prune(
    params,
    0.3,
    scorer=jprune.scores.random,
    key=jax.random.key(7),
    distribution=DISTRIBUTIONS[distribution],
  )
  assert_same(tmp_path / 'out', params, masks)


def test_random_where_two_paths_have_one_hash(tmp_path):
  # of 100,000 leaves two are likely to; they get different scores all the same
  found = {}
  for name in map(str, range(10**6)):
    if (other := found.setdefault(_word(name, 0), name)) != name:
      break
  params = {each: np.ones((64, 2), np.float32) for each in (name, other)}
  into = foreign(tmp_path / 'in', params)
  run('prune', into, tmp_path / 'out', '--sparsity', 0.5, '--scorer', 'random', '--quiet')
  params = as_jax(params)
  masks = jprune.prune(params, 0.5, scorer=jprune.scores.random, key=jax.random.key(0))
  assert not np.array_equal(masks[name], masks[other])
  assert_same(tmp_path / 'out', params, masks)


def test_random_where_jax_draws_in_another_way(tmp_path):
  params = {name: weights('float32')[name] for name in ('conv.weight', 'odd')}
  into = foreign(tmp_path / 'in', params)
  command = ['prune', into, tmp_path / 'out', '--sparsity', 0.3, '--scorer', 'random']
  with jax.threefry_partitionable(False):
    run(*command)
    params = as_jax(params)
    masks = jprune.prune(params, 0.3, scorer=jprune.scores.random, key=jax.random.key(0))
  assert_same(tmp_path / 'out', params, masks)


@pytest.mark.parametrize('begin', [0, 5, 2**32 - 3])
def test_random_beyond_32_bits(begin):
  # all weights of one leaf are drawn differently, however many there are
  data = np.array([1, 2], np.uint32)
  drawn = _scores._drawn(data, begin, begin + 6)
  alone = [_scores._drawn(data, i, i + 1)[0] for i in range(begin, begin + 6)]
  assert drawn.tolist() == alone
  assert len(set(alone)) == 6


def test_where(tmp_path):
  params = weights('float32')
  into = foreign(tmp_path / 'in', params)
  run('prune', into, tmp_path / 'a', '--sparsity', 0.5, '--where', '^(?!conv).*weight')
  run(
    'prune', into, tmp_path / 'b', '--sparsity', 0.5, '--where', 'layers.2.bias', '--where', 'conv'
  )
  params = as_jax(params)
  assert_same(tmp_path / 'a', params, jprune.prune(params, 0.5, where='layers.*weight'))
  assert_same(tmp_path / 'b', params, jprune.prune(params, 0.5, where=['layers.2.bias', 'conv']))


def nested(seed=0):
  rng = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  return {
    'b': [{'kernel': draw(8, 12), 'bias': draw(12)}, {'kernel': draw(12, 16), 'bias': None}],
    'a': ({'kernel': draw(16, 4)}, jnp.arange(3)),
  }


@pytest.mark.parametrize('distribution', ['uniform', 'erk', 'global'])
def test_a_file_of_jprune_keeps_its_tree(tmp_path, distribution):
  params = nested()
  own(tmp_path / 'in', params)
  run('prune', tmp_path / 'in', tmp_path / 'out', '--sparsity', 0.5, '--distribution', distribution)
  masks = jprune.prune(params, 0.5, distribution=DISTRIBUTIONS[distribution])
  assert_same(tmp_path / 'out', params, masks)


ROUNDS = {
  'uniform': (['--sparsity', '.6'], {'sparsity': 0.6}),
  'global': (
    ['--sparsity', '.6', '--distribution', 'global'],
    {'sparsity': 0.6, 'distribution': jprune.distributions.global_},
  ),
  'less than before': (['--sparsity', '.1'], {'sparsity': 0.1}),
  'global, less': (
    ['--sparsity', '.05', '--distribution', 'global'],
    {'sparsity': 0.05, 'distribution': jprune.distributions.global_},
  ),
  '1:4': (['--n-of-m', '1:4'], {'pattern': jprune.masks.NOfM(1, 4)}),
}


@pytest.mark.usefixtures('small_chunks')
@pytest.mark.parametrize('asked', sorted(ROUNDS))
@pytest.mark.parametrize('scorer', ['magnitude', 'random'])
def test_a_second_round_brings_nothing_back(tmp_path, asked, scorer):
  options, arguments = ROUNDS[asked]
  params = nested()
  earlier = jprune.prune(params, 0.3, scorer=jprune.scores.random, key=jax.random.key(1))
  earlier['b'][0]['bias'] = jnp.arange(12) > 3  # not selected: stays as it is
  own(tmp_path / 'in', params, earlier)
  run('prune', tmp_path / 'in', tmp_path / 'out', '--scorer', scorer, *options)
  key = {'key': jax.random.key(0)} if scorer == 'random' else {}
  rank = getattr(jprune.scores, scorer)
  params, earlier = jprune.load(tmp_path / 'in')
  masks = jprune.prune(params, scorer=rank, masks=earlier, **key, **arguments)
  masks['b'][0]['bias'] = earlier['b'][0]['bias']
  assert_same(tmp_path / 'out', params, masks)


def test_named_tuples_and_int_keys_rank_as_they_load(tmp_path):
  # ties between leaves go to the leaf that comes first in the tree that `load` gives
  params = {10: jnp.ones((2, 2)), 9: jnp.ones((2, 2)), 2: jnp.ones((2, 3))}
  own(tmp_path / 'in', params)
  run('prune', tmp_path / 'in', tmp_path / 'out', '--sparsity', 0.5, '--distribution', 'global')
  masks = jprune.prune(params, 0.5, distribution=jprune.distributions.global_)
  assert_same(tmp_path / 'out', params, masks)


# ----------------------------------------------------------------------------------- formats


def test_dense_is_readable_by_all(tmp_path):
  params = weights('float32')
  into = foreign(tmp_path / 'in', params, {'format': 'pt', 'of': 'someone'})
  run('prune', into, tmp_path / 'out', '--sparsity', 0.5, '--format', 'dense')
  found = safetensors.numpy.load_file(tmp_path / 'out')
  masks = jprune.prune(as_jax(params), 0.5)
  pruned = jprune.apply(as_jax(params), masks)
  assert set(found) == set(params)
  for name, leaf in found.items():
    assert leaf.dtype == params[name].dtype
    assert leaf.tobytes() == np.asarray(pruned[name]).tobytes()
  loaded, none = jprune.load(tmp_path / 'out')
  assert none is None
  np.testing.assert_array_equal(loaded['conv.weight'], found['conv.weight'])


@pytest.mark.parametrize('kind', ['sparse', 'dense'])
def test_metadata_is_kept(tmp_path, kind):
  into = foreign(tmp_path / 'in', weights('float32'), {'format': 'pt', 'of': 'someone'})
  run('prune', into, tmp_path / 'one', '--sparsity', 0.5, '--format', kind)
  run('prune', tmp_path / 'one', tmp_path / 'two', '--sparsity', 0.75, '--format', kind)
  with safetensors.safe_open(tmp_path / 'two', 'numpy') as file:
    metadata = file.metadata()
  assert {key: metadata[key] for key in ('format', 'of')} == {'format': 'pt', 'of': 'someone'}
  assert json.loads(metadata['jprune'])['masks'] == (kind == 'sparse')


@pytest.mark.parametrize(('named', 'axis'), [('pt', 1), ('mlx', -1), ('flax', -2), ('tf', -2)])
def test_axis_by_what_the_file_says(tmp_path, capsys, named, axis):
  params = {'w': np.random.default_rng(0).normal(size=(8, 4, 8, 4)).astype(np.float32)}
  into = foreign(tmp_path / 'in', params, {'format': named})
  run('prune', into, tmp_path / 'out', '--n-of-m', '2:4')
  assert f'2:4 along axis {axis} (format={named})' in capsys.readouterr().out
  params = as_jax(params)
  pattern = jprune.masks.NOfM(2, 4, axis)
  assert_same(tmp_path / 'out', params, jprune.prune(params, pattern=pattern))


@pytest.mark.parametrize(
  ('shapes', 'axis', 'said'),
  [
    (((16, 48), (16, 64), (64, 16)), 0, '0 of the Conv1D of transformers, 1 of others'),  # GPT-2
    (((48, 16), (64, 16), (16, 64)), 1, '1 (format=pt)'),  # the same names for nn.Linear
    (((20, 16), (64, 16), (16, 64)), 1, '1 (format=pt)'),  # with one head of keys and values
  ],
)
def test_axis_of_what_has_names_of_gpt2(tmp_path, capsys, shapes, axis, said):
  rng = np.random.default_rng(0)
  names = [f'h.0.{name}.weight' for name in ('attn.c_attn', 'mlp.c_fc', 'mlp.c_proj')]
  shapes = {
    **dict(zip(names, shapes, strict=True)),
    'wte.weight': (57, 16),
    'score.weight': (2, 16),
  }
  params = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
  into = foreign(tmp_path / 'in', params, {'format': 'pt'})
  run('prune', into, tmp_path / 'out', '--n-of-m', '2:4')
  assert f'2:4 along axis {said}, magnitude' in capsys.readouterr().out
  params = as_jax(params)
  masks = {
    name: jprune.masks.n_of_m(abs(leaf), 2, 4, axis=axis if name in names else 1)
    for name, leaf in params.items()
  }
  assert_same(tmp_path / 'out', params, masks)


def test_axis_of_a_file_of_jprune(tmp_path, capsys):
  params = {'w': jnp.asarray(np.random.default_rng(0).normal(size=(8, 4)), jnp.float32)}
  run('prune', own(tmp_path / 'in', params), tmp_path / 'out', '--n-of-m', '2:4')
  assert 'along axis -2 (a file of jprune)' in capsys.readouterr().out
  masks = jprune.prune(params, pattern=jprune.masks.NOfM(2, 4))
  assert_same(tmp_path / 'out', params, masks)


def test_json(tmp_path, capsys):
  into = foreign(tmp_path / 'in', weights('float32'))
  run('prune', into, tmp_path / 'out', '--sparsity', 0.5, '--json')
  found = json.loads(capsys.readouterr().out)
  size = os.path.getsize(tmp_path / 'out')
  written = {'path': str(tmp_path / 'out'), 'format': 'sparse', 'bytes': size, 'files': ['out']}
  assert found.pop('written') == {**written, 'copied': [], 'skipped': []}
  run('tally', tmp_path / 'out', '--json')
  assert found == json.loads(capsys.readouterr().out)


# ---------------------------------------------------------------------------------- counting


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_counting_against_a_sort(data):
  few = st.sampled_from([0.0, 1e-45, 1.0, 1.0000001, 2.0, 3e38, np.inf])
  floats = few | st.floats(0, 1, width=32)
  leaves = data.draw(st.lists(st.lists(floats, max_size=12), min_size=1, max_size=4))
  arrays = [np.array(leaf, np.float32) for leaf in leaves]
  before = [np.array(data.draw(st.lists(st.booleans(), min_size=x.size, max_size=x.size)), bool)
            for x in arrays]  # fmt: skip
  size = sum(x.size for x in arrays)
  k = data.draw(st.integers(0, size))
  keys = lambda i: _count.keys(arrays[i].size, lambda b, e: arrays[i][b:e], before[i])
  cuts = _count.cuts(lambda word: [keys(i) for i in range(len(arrays))], k)
  found = [_count.mask(x.size, keys(i), cut) for i, (x, cut) in enumerate(zip(arrays, cuts))]
  rank = [
    (not b, -x, i) for i, (b, x) in enumerate(zip(np.concatenate(before), np.concatenate(arrays)))
  ]
  best = {i for pruned, _, i in sorted(rank)[:k] if not pruned}
  assert np.flatnonzero(np.concatenate(found)).tolist() == sorted(best)
  assert [cut.kept for cut in cuts] == [np.count_nonzero(each) for each in found]


@settings(max_examples=25, deadline=None)
@given(
  shape=st.lists(st.integers(1, 12), min_size=1, max_size=4),
  m=st.integers(1, 5),
  data=st.data(),
)
def test_blocks_cover_a_leaf_in_order(shape, m, data):
  axis = data.draw(st.integers(0, len(shape) - 1))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(_scores, 'CHUNK', 64)
    blocks = list(_select._blocks(tuple(shape), axis, m))
  sizes = [int(np.prod(block)) for _, block in blocks]
  assert [begin for begin, _ in blocks] == [0, *np.cumsum(sizes)[:-1]]
  assert sum(sizes) == np.prod(shape)
  for begin, (rows, taken, inner) in blocks:
    assert inner == np.prod(shape[axis + 1 :], dtype=int)
    place = begin // inner % shape[axis]
    assert place % m == 0
    assert taken % m == 0 or place + taken == shape[axis]
    assert rows == 1 or taken == shape[axis]
    assert rows * taken * inner <= max(64, m * inner)


# ---------------------------------------------------------------------------------- progress


@pytest.mark.parametrize(('option', 'wanted'), [([], True), (['--no-progress'], False)])
def test_progress(tmp_path, monkeypatch, option, wanted):
  seen = []

  def shown(label, items, progress, unit, total):
    seen.append((label, progress, unit, total))
    return items

  monkeypatch.setattr('jprune._batches.shown', shown)
  into = foreign(tmp_path / 'in', {'a': np.ones((2, 2)), 'b': np.ones((2, 2)), 'c': np.ones(2)})
  command = ['prune', into, tmp_path / 'out', '--sparsity', 0.5, '--distribution', 'global']
  run(*command, *option)
  counting = [(f'prune: counting {i}/2', wanted, 'leaf', 2) for i in (1, 2)]
  assert seen == [*counting, ('prune: writing', wanted, 'leaf', 3)]
  seen.clear()
  run('tally', into, *option)
  assert seen == [('tally', wanted, 'leaf', 3)]


def test_what_stays_dense_by_default_and_how_to_insist(tmp_path, capsys):
  rng = np.random.default_rng(0)
  shapes = {
    'model.embed_tokens.weight': (64, 32),
    'model.layers.0.input_layernorm.weight': (32,),
    'model.layers.0.mlp.up_proj.weight': (64, 32),
    'model.norm.weight': (2, 32),  # as in a stack
    'wpe.weight': (16, 32),
  }
  params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
  into = foreign(tmp_path / 'in', params, {'format': 'pt'})
  run('prune', into, tmp_path / 'a', '--sparsity', 0.5, '--where', '^(?!.*embed)')
  said = capsys.readouterr().out
  for reason in (
    'fewer than two dimensions (1): model.layers.0.input_layernorm.weight',
    'not selected (1): model.embed_tokens.weight',
    "a norm's vector by its name (1): model.norm.weight",
    'a position table by its name (1): wpe.weight',
  ):
    assert reason in said
  params = as_jax(params)
  assert_same(tmp_path / 'a', params, jprune.prune(params, 0.5, where='up_proj'))
  run('prune', into, tmp_path / 'b', '--sparsity', 0.5, '--where', 'model.norm.weight')
  assert_same(tmp_path / 'b', params, jprune.prune(params, 0.5, where=['model.norm.weight']))
  run('prune', into, tmp_path / 'c', '--sparsity', 0.5, '--where', 'norm', code=1)
  error = capsys.readouterr().err
  assert '`--where` must be a filter that selects at least one leaf of those that the' in error
  assert 'finds only ' in error
  assert not (tmp_path / 'c').exists()
