"""The numbers of a tally against hand computation and NumPy; its errors."""

import dataclasses
import json
import math

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jprune.report
from jprune.graph import Role, Roles
from jprune.masks import pack
from jprune.masks._storage import smallest_storage
from jprune.report import LeafTally, Tally, tally

FLOAT32 = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)


def reasons(report):
  return {row.path: row.skipped for row in report.rows}


# ----------------------------------------------------------------------------------------- numbers


def test_every_number_by_hand():
  params = {
    'bias': jnp.zeros(16, jnp.bfloat16),
    'index': jnp.ones((10, 100)),
    'bitmask': jnp.ones((4, 160), jnp.bfloat16),
    'barely': jnp.ones((2, 5)),
  }
  masks = {
    'bias': None,
    'index': np.arange(1000).reshape(10, 100) < 3,
    'bitmask': np.arange(640).reshape(4, 160) % 2 == 0,
    'barely': np.arange(10).reshape(2, 5) > 0,
  }
  report = tally(params, masks)
  flat = 'fewer than two dimensions'
  assert report.rows == (
    # 10 float32, and 2 rows of 1 byte that say which one is pruned
    LeafTally('barely', (2, 5), 'float32', 10, 9, 40, 42, 'dense'),
    LeafTally('bias', (16,), 'bfloat16', 16, 16, 32, 32, 'dense', flat, counted=False),
    # 320 values of 2 bytes, 4 rows of 20 bytes of bits and 8 of offset, 2 x 8 of shape
    LeafTally('bitmask', (4, 160), 'bfloat16', 640, 320, 1280, 640 + 4 * 28 + 16, 'bitmask'),
    # 3 values of 4 bytes, 3 positions of 4, 2 x 8 of shape
    LeafTally('index', (10, 100), 'float32', 1000, 3, 4000, 12 + 12 + 16, 'index'),
  )
  assert (report.size, report.nonzero) == (1666, 348)
  assert (report.bytes_dense, report.bytes_stored) == (5352, 42 + 32 + 768 + 40)
  assert report.sparsity == (1666 - 348) / 1666
  assert report.compression == 5352 / 882
  assert [row.sparsity for row in report.rows] == [0.1, 0.0, 0.5, 0.997]
  assert [row.compression for row in report.rows] == [40 / 42, 1.0, 1280 / 768, 100.0]
  assert reasons(report)['bias'] == 'fewer than two dimensions'


def test_counts_zeros_without_masks():
  report = tally({'b': np.zeros(3, np.float32), 'w': jnp.array([[0.0, -0.0], [jnp.nan, 1e-45]])})
  assert [(row.size, row.nonzero) for row in report.rows] == [(3, 0), (4, 2)]
  assert report.skipped == ()


def test_stray_zeros_cost_nothing():
  """A dense file costs what it costs; a mask that keeps nearly all is stored all the same."""
  stray = np.ones((64, 64), np.float32)
  stray[0, :14] = 0
  report = tally({'w': stray})
  assert (report.nonzero, report.bytes_stored, report.compression) == (4082, 16_384, 1.0)
  assert report.bytes_file < 17_000
  assert '1.00x' in str(report)
  masked = tally({'w': stray}, {'w': stray != 0})
  assert masked.bytes_stored == 16_384 + 64 * 64 // 8


def test_masks_count_not_zeros_where_masks_are_given():
  params = {'w': jnp.zeros((2, 2)), 'v': jnp.zeros((2, 2))}
  report = tally(params, {'w': jnp.array([[True, True], [True, False]]), 'v': None})
  assert [row.nonzero for row in report.rows] == [4, 3]


@pytest.mark.parametrize('as_masks', [pack, lambda masks: jax.tree.map(np.asarray, masks)])
def test_packed_and_numpy_masks_count_the_same(as_masks):
  params = {'w': jnp.ones((3, 13)), 's': jnp.ones(()), 'b': jnp.ones(5)}
  masks = {'w': jnp.arange(39).reshape(3, 13) % 3 > 0, 's': jnp.array(False), 'b': None}
  assert tally(params, as_masks(masks)) == tally(params, masks)


def test_sharded_params_count_the_same():
  mesh = jax.make_mesh((8,), ('x',), axis_types=(jax.sharding.AxisType.Auto,))
  values = np.arange(16 * 6).reshape(16, 6).astype(np.float32) % 4
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('x'))
  assert tally({'w': jax.device_put(values, rows)}) == tally({'w': values})


arrays = hnp.arrays(
  np.float32,
  hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9),
  elements=st.sampled_from([0.0, -0.0, 1.5, -2.0, 1e-45, float('inf')]),
)


masks_as = st.sampled_from([None, 'bool', 'packed'])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(arrays, masks_as), min_size=1, max_size=5))
def test_totals_equal_numpy(leaves):
  params = [values for values, _ in leaves]
  bools = [None if how is None else np.isfinite(values) & (values > -1) for values, how in leaves]
  masks = [
    pack([jnp.asarray(mask)])[0] if how == 'packed' else mask
    for mask, (_, how) in zip(bools, leaves)
  ]
  report, zeros = tally(params, masks), tally([jnp.asarray(values) for values in params])
  sizes = [values.size for values in params]
  kept = [size if mask is None else int(mask.sum()) for size, mask in zip(sizes, bools)]
  assert [row.nonzero for row in report.rows] == kept
  assert [row.nonzero for row in zeros.rows] == [int((values != 0).sum()) for values in params]
  for total in (report, zeros):
    assert total.size == sum(sizes)
    assert total.nonzero == sum(row.nonzero for row in total.rows)
    assert total.bytes_dense == 4 * sum(sizes)
    assert total.bytes_stored == sum(
      smallest_storage(values.shape, row.nonzero, 4, masked=total is report).bytes
      for values, row in zip(params, total.rows)
    )
    assert total is report or all(row.bytes_stored <= row.bytes_dense for row in total.rows)
    assert json.loads(json.dumps(total.to_dict(), allow_nan=False)) == total.to_dict()
    assert max(len(line) for line in str(total).splitlines()) <= 100


# ------------------------------------------------------------------------------------ large trees


def test_shape_structs_past_int32():
  params = {f'layer_{i}': FLOAT32(2**16 + 1, 2**15 + 1) for i in range(5)}
  report = tally(params)
  assert report.size == report.nonzero == 5 * (2**16 + 1) * (2**15 + 1) > 2**33
  assert report.bytes_dense == report.bytes_stored == 4 * report.size
  assert set(reasons(report).values()) == {'zeros not counted'}
  assert type(report.to_dict()['total']['size']) is int


def test_kept_weights_past_int32_exactly():
  mask = np.ones((2**13, 2**13), bool)
  mask[5, :7] = False
  params = {i: FLOAT32(2**13, 2**13) for i in range(65)}
  report = tally(params, dict.fromkeys(params, mask))
  assert report.size == 65 * 2**26 > 2**32
  assert report.nonzero == 65 * (2**26 - 7)
  assert report.sparsity == 7 / 2**26
  assert report.bytes_dense == 260 * 2**26
  assert '<0.01%' in str(report)


def test_resnet50_totals():
  """25,502,912 conv and fc weights (REFERENCES.md): dense, they are 102.0 MB."""
  params = {'conv1': FLOAT32(7, 7, 3, 64), 'fc': FLOAT32(2048, 1000)}
  cin = 64
  for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
    for block in range(blocks):
      name = f'stage{stage}_block{block}'
      kernels = [(1, 1, cin, width), (3, 3, width, width), (1, 1, width, 4 * width)]
      kernels += [(1, 1, cin, 4 * width)] if block == 0 else []
      params |= {f'{name}_conv{i}': FLOAT32(*shape) for i, shape in enumerate(kernels)}
      cin = 4 * width
  report = tally(params)
  assert (len(report.rows), report.size) == (54, 25_502_912)
  assert report.bytes_dense == report.bytes_stored == 102_011_648


# ----------------------------------------------------------------------------- what was left dense


def test_reasons_with_masks():
  params = {
    'bias': jnp.ones(3),
    'count': jnp.ones((2, 2), jnp.int32),
    'empty': jnp.ones((0, 4)),
    'function': jax.nn.relu,
    'head': jnp.ones((3, 3)),
    'key': jax.random.key(0),
    'number': 3,
    'open': jnp.ones((2, 2)),
    'pruned': jnp.ones((2, 2)),
  }
  masks = {**dict.fromkeys(params), 'open': np.ones((2, 2), bool), 'pruned': np.eye(2) > 0}
  report = tally(params, masks)
  assert reasons(report) == {
    'bias': 'fewer than two dimensions',
    'count': 'not floating',
    'empty': 'no weights',
    'function': 'not an array',
    'head': 'not selected',
    'key': 'not floating',
    'number': 'not floating',
    'open': 'its mask keeps every weight',
    'pruned': None,
  }
  assert dict(report.skipped) == report.to_dict()['skipped']
  alike = [path for path, why in report.skipped if why == 'not floating']
  assert alike == ['count', 'key', 'number']


def test_reasons_without_masks():
  params = {'w': jnp.eye(2), 'b': jnp.ones(2), 'e': jnp.ones(0), 's': FLOAT32(2, 2)}
  params |= {'f': jax.nn.relu, 'k': jax.random.key(0), 'n': 0.5}
  assert reasons(tally(params)) == {
    'w': None,
    'b': 'no zeros',
    'e': 'no weights',
    's': 'zeros not counted',
    'f': 'not an array',
    'k': 'zeros not counted',
    'n': 'no zeros',
  }


def test_a_rule_that_the_masks_contradict_is_no_reason():
  """Where something that the default leaves out has a mask, the default wasn't what chose."""
  params = {'w': jnp.ones((4, 4)), 'bias': jnp.ones(4), 'pos_embed': jnp.ones((4, 4)), 'n': 1}
  kernels = {**dict.fromkeys(params), 'w': np.eye(4) > 0}
  assert reasons(tally(params, kernels)) == {
    'w': None,
    'bias': 'fewer than two dimensions',
    'pos_embed': 'a position table by its name',
    'n': 'not floating',
  }
  with_bias = {**kernels, 'bias': np.arange(4) > 0}
  assert reasons(tally(params, with_bias)) == {
    'w': None,
    'bias': None,
    'pos_embed': 'not selected',
    'n': 'not floating',
  }


# ------------------------------------------------------------------------------------ kinds of tree


def test_linen_nnx_and_equinox_models():
  linen = nn.Dense(4).init(jax.random.key(0), jnp.ones((1, 3)))
  state = nnx.state(nnx.Linear(3, 4, rngs=nnx.Rngs(0)))
  model = eqx.nn.MLP(3, 4, 5, 1, key=jax.random.key(0))
  assert tally(linen)['params/kernel'].size == 12
  assert tally(state)['kernel'].shape == (3, 4)
  report = tally(model)
  assert report['layers/0/weight'].size == 15
  assert report['activation'].skipped == 'not an array'


def test_bare_array_and_tuples():
  report = tally(jnp.eye(3), np.eye(3) > 0)
  assert [(row.path, row.nonzero) for row in report.rows] == [('', 3)]
  assert '(root)' in str(report)
  assert [row.path for row in tally((jnp.eye(2), [jnp.eye(3)])).rows] == ['0', '1/0']


# ---------------------------------------------------------------------------------------- by name

NESTED = {
  'encoder': {'layer_0': {'kernel': jnp.eye(4), 'bias': jnp.ones(4)}, 'scale': jnp.ones(4)},
  'encoder_2': {'kernel': jnp.ones((2, 2))},
  'model.head.weight': jnp.ones((2, 4)),
}


def test_a_tally_is_a_mapping_of_its_rows():
  report = tally(NESTED)
  assert report['encoder/layer_0/kernel'].sparsity == 0.75
  assert list(report) == [row.path for row in report.rows]
  assert list(report.values()) == list(report.rows)
  assert len(report) == 5
  assert 'encoder/scale' in report
  assert 'encoder' not in report
  assert report.get('encoder') is None
  assert report == tally(NESTED)
  assert tally(jnp.eye(2))[''].size == 4


def test_part_of_a_tally():
  part = tally(NESTED).under('encoder')
  assert list(part) == ['encoder/layer_0/bias', 'encoder/layer_0/kernel', 'encoder/scale']
  assert (part.size, part.nonzero) == (24, 12)
  assert list(tally(NESTED).under('model.head')) == ['model.head.weight']
  assert tally(NESTED).under('encoder/scale').size == 4
  assert tally(NESTED).under('') == tally(NESTED)
  assert 'encoder/layer_0/kernel' in str(part)


def test_part_of_a_tally_of_a_function():
  params = {'in': {'w': jnp.ones((3, 8))}, 'out': {'w': jnp.ones((8, 2))}}
  fn = lambda params, x: jax.nn.relu(x @ params['in']['w']) @ params['out']['w']
  whole = tally(params, jprune.prune(params, 0.5), fn=fn, args=(jnp.ones((1, 3)),))
  part = whole.under('in')
  assert (part.macs.dense, part.macs.sparse) == (24, 12)
  assert part.to_dict()['macs']['leaves'].keys() == {'in/w'}
  assert 'in/w' in str(part)


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('encoder', "'encoder' is no leaf but holds 3 leaves, 'encoder/layer_0/bias'.*: under"),
    ('encoder.layer_0', r"'encoder/layer_0' is no leaf .*: under\('encoder/layer_0'\) is their"),
    ('model/head', r"under\('model.head'\) is their tally"),
    ('encoder.layer_0.kernel', "no leaf .*: did you mean 'encoder/layer_0/kernel'"),
    ('encoder/scale/value', "did you mean 'encoder/scale'"),
    ('kernel', "did you mean 'encoder/layer_0/kernel', 'encoder_2/kernel'"),
    ('encoder/layer_0/kernle', "did you mean 'encoder/layer_0/kernel'"),
    ('kernal', "did you mean 'encoder/layer_0/kernel', 'encoder_2/kernel'"),
    ('xyz', "no leaf 'xyz': there are 'encoder/layer_0/bias', .* and 2 more"),
    (0, "no leaf '0': there are"),
    (['encoder'], 'no leaf .*: there are'),
  ],
)
def test_an_unknown_name_is_told_those_that_there_are(name, words):
  with pytest.raises(KeyError, match=words):
    tally(NESTED)[name]
  with pytest.raises(KeyError, match="no leaf 'decoder': "):
    tally(NESTED).under('decoder')


def test_whether_a_leaf_is_there_is_no_search_for_like_names(monkeypatch):
  monkeypatch.setattr('jprune.report._errors.words_no_leaf', lambda *_: pytest.fail('searched'))
  report = tally(NESTED)
  assert 'encoder/scale' in report
  assert 'decoder' not in report
  assert report.get('encoder/scale') is report['encoder/scale']
  assert report.get('decoder') is None
  assert report.get('decoder', 0) == 0


# ------------------------------------------------------------------------------------------- data


def test_dict_is_plain_json():
  report = tally({'w': jnp.eye(4, dtype=jnp.bfloat16), 's': 0, 'f': jax.nn.relu})
  data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
  assert data == report.to_dict()
  assert data['leaves'][2] == {
    'path': 'w',
    'shape': [4, 4],
    'dtype': 'bfloat16',
    'size': 16,
    'nonzero': 4,
    'bytes_dense': 32,
    'bytes_stored': report.rows[2].bytes_stored,
    'format': report.rows[2].format,
    'skipped': None,
    'counted': True,
    'sparsity': 0.75,
    'compression': report.rows[2].compression,
  }
  assert data['leaves'][0]['shape'] is None
  assert data['leaves'][1]['compression'] is None  # a scalar zero takes no byte at all
  assert math.isinf(report.rows[1].compression)
  total = data['total']
  assert (total['size'], total['nonzero'], total['bytes_dense']) == (17, 4, 36)
  assert total['bytes_file'] == report.bytes_file > report.bytes_stored


def test_tallies_are_frozen_values():
  report = tally({'w': jnp.eye(4)})
  with pytest.raises(dataclasses.FrozenInstanceError):
    report.rows = ()
  assert report == Tally(report.rows)
  assert hash(report) == hash(Tally(report.rows))


def test_public_names():
  assert {'LeafTally', 'Tally', 'tally'} <= set(dir(jprune.report))


def test_what_the_default_left_out_stands_there_with_the_reason():
  params = {
    'attention': {'kernel': jnp.ones((8, 2, 4)), 'bias': jnp.ones((2, 4))},
    'embed': jnp.ones((9, 8)),
    'norm': {'scale': jnp.ones((3, 8))},
    'cls': jnp.ones((1, 1, 8)),
  }
  report = tally(params, jprune.prune(params, 0.5, where='attention|norm'))
  assert reasons(report) == {
    'attention/bias': 'a bias by its name',
    'attention/kernel': None,
    'cls': 'a token by its name',
    'embed': 'not selected',
    'norm/scale': 'a scale by its name',
  }
  for text in (str(report), report._repr_html_()):
    for why in set(reasons(report).values()) - {None}:
      assert f'{why} (1)' in text
  assert report.to_dict()['skipped']['attention/bias'] == 'a bias by its name'
  assert 'role' not in str(report)
  assert 'role' not in report.to_dict()['leaves'][0]


def test_roles_are_a_column_and_the_reasons():
  params = {'w': jnp.ones((4, 4)), 'e': jnp.ones((9, 4)), 'longer/path/of/b': jnp.ones((2, 4))}
  found = {
    'e': Role('table', (9, 4), 'rows of it are gathered'),
    'longer/path/of/b': Role('vector', (2, 4), 'it is added'),
    'w': Role('kernel', (4, 4), 'a product multiplies by it'),
  }
  roles = Roles(found)
  masks = jprune.prune(params, 0.5, roles=roles)
  fn = lambda params, x: x @ params['w']
  report = tally(params, masks, roles=roles)
  assert [row.role for row in report.rows] == ['table', 'vector', 'kernel']
  assert reasons(report)['e'] == 'table: rows of it are gathered'
  lines = str(report).splitlines()
  assert lines[0].split()[:4] == ['leaf', 'shape', 'role', 'size']
  assert lines[4].split()[:3] == ['w', 'f32[4,4]', 'kernel']
  assert max(map(len, lines)) <= 100
  assert '>role</th>' in report._repr_html_()
  whole = tally(params, masks, roles=roles, fn=fn, args=(jnp.ones((2, 4)),))
  assert [leaf['role'] for leaf in whole.to_dict()['leaves']] == ['table', 'vector', 'kernel']
  assert 'kernel</td>' in whole._repr_html_()
  with pytest.raises(ValueError, match="tally: `roles` must be .*; got none at leaf 'e'"):
    tally(params, masks, roles=Roles({'w': found['w']}))
