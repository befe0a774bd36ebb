"""Quantised weights are ranked by what they stand for; what quantises them is never touched."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import jprune
from jprune._cli import _scores, main
from jprune.tree._quantised import quantised
from tests.cli.files import foreign, own, run

RNG = np.random.default_rng(0)
E4M3 = jnp.float8_e4m3fn


def drawn(dtype, *shape):
  return np.clip(RNG.normal(size=shape) * 40, -120, 120).astype(dtype)


def scales(*shape, dtype=np.float32):
  return np.exp(RNG.normal(size=shape) * 2).astype(dtype)


def in_tiles(weight, scale, tile):
  """Dequantised tile by tile, as the kernels of those who write such files do."""
  out = weight.astype(np.float32)
  for place in np.ndindex(scale.shape):
    where = tuple(slice(i * n, (i + 1) * n) for i, n in zip(place, tile))
    out[where] *= scale[place].astype(np.float32)
  return out


# weights, scales, the tile that one scale is for
KINDS = {
  'a tensor': ('weight', 'weight_scale', drawn(E4M3, 24, 16), scales(1), (24, 16)),
  'a scalar': ('weight', 'scale_weight', drawn(E4M3, 24, 16), scales(), (24, 16)),
  'channels': ('weight', 'weight_scale', drawn(np.int8, 24, 16), scales(24, 1), (1, 16)),
  'rows': ('weight', 'scales', drawn(np.int8, 16, 16), scales(16, dtype=np.float16), (1, 16)),
  'columns': ('kernel', 'kernel_scale', drawn(np.int8, 16, 16), scales(16), (16, 1)),
  'groups': ('weight', 'weight_scale', drawn(np.int8, 24, 64), scales(24, 2), (1, 32)),
  'blocks': ('weight', 'weight_scale_inv', drawn(E4M3, 300, 140), scales(3, 2), (128, 128)),
  'experts': ('up_proj', 'up_proj_scale', drawn(E4M3, 3, 24, 16), scales(3, 24), (1, 1, 16)),
  'qwix': ('array.qvalue', 'array.scale', drawn(np.int8, 24, 16), scales(3, 16), (8, 1)),
  'quanto': ('weight._data', 'weight._scale', drawn(jnp.float8_e5m2, 24, 8), scales(24, 1), (1, 8)),
}


def files(kind, tmp_path):
  """A file with quantised weights and others, and the tree that it stands for."""
  name, scale_name, weight, scale, tile = KINDS[kind]
  axes = scale.reshape(scale.shape + (1,) * (weight.ndim - scale.ndim))
  axes = scale.reshape(1, 16) if kind == 'columns' else axes
  head = RNG.normal(size=(12, 20)).astype(np.float32) * 30
  held = {f'l.{name}': weight, f'l.{scale_name}': scale, 'head.weight': head}
  held['l.input_scale'] = np.ones((2, 2), np.float32)
  if kind != 'quanto':
    held[f'l.{name}_zero_point'] = np.zeros((24, 2), np.int8)
  params = {**held, f'l.{name}': in_tiles(weight, axes, tile)}
  return own(tmp_path / 'in', held), held, jax.tree.map(jnp.asarray, params)


@pytest.mark.parametrize('kind', sorted(KINDS))
def test_ranked_as_dequantised(tmp_path, monkeypatch, kind):
  monkeypatch.setattr(_scores, 'CHUNK', 100)
  into, held, params = files(kind, tmp_path)
  weight = f'l.{KINDS[kind][0]}'
  for asked, arguments in [
    ('--sparsity .5', {'sparsity': 0.5}),
    (
      '--sparsity .7 --distribution global',
      {'sparsity': 0.7, 'distribution': jprune.distributions.global_},
    ),
    ('--n-of-m 2:4 --axis -2', {'pattern': jprune.masks.NOfM(2, 4, -2)}),
  ]:
    run('prune', into, tmp_path / 'out', *asked.split(), '--quiet', '--force')
    expected = jprune.prune(params, **arguments)
    found, masks = jprune.load(tmp_path / 'out')
    for name, leaf in held.items():
      if name in (weight, 'head.weight'):
        np.testing.assert_array_equal(np.asarray(masks[name]), np.asarray(expected[name]))
        leaf = np.where(expected[name], leaf, np.zeros((), leaf.dtype))
      else:
        assert masks[name] is expected[name] is None
      assert np.asarray(found[name]).tobytes() == leaf.tobytes()


def test_scales_decide(tmp_path):
  # by themselves the numbers of both rows, and of both leaves, are alike
  held = {
    'a.weight': np.full((2, 4), 3, np.int8),
    'a.weight_scale': np.array([[1.0], [2.0]], np.float32),
    'b.weight': np.full((2, 4), 3, np.int8),
    'b.weight_scale': np.array([[9.0], [0.5]], np.float32),
  }
  into = foreign(tmp_path / 'in', held, {'format': 'pt'})
  run('prune', into, tmp_path / 'a', '--sparsity', '.5', '--format', 'dense', '--quiet')
  found = safetensors.numpy.load_file(tmp_path / 'a')
  assert found['a.weight'].tolist() == [[0] * 4, [3] * 4]
  assert found['b.weight'].tolist() == [[3] * 4, [0] * 4]
  more = ['--distribution', 'global', '--where', 'a', '--where', 'b']
  run('prune', into, tmp_path / 'b', '--sparsity', '.75', *more, '--quiet')
  found, masks = jprune.load(tmp_path / 'b')
  assert found['a.weight'].dtype == jnp.int8
  assert not masks['a.weight'].any()
  assert masks['b.weight'].sum(1).tolist() == [4, 0]


OTHERS = {
  'GPTQ': {
    'l.qweight': np.ones((2, 16), np.int32),
    'l.qzeros': np.ones((2, 2), np.int32),
    'l.scales': np.ones((2, 16), np.float16),
    'l.g_idx': np.arange(16, dtype=np.int32),
  },
  'MLX': {
    'l.weight': np.ones((16, 2), np.uint32),
    'l.scales': np.ones((16, 2), np.float16),
    'l.biases': np.ones((16, 2), np.float16),
  },
  'packed': {
    'l.weight_packed': np.ones((16, 2), np.int32),
    'l.weight_scale': np.ones((16, 2), np.float32),
    'l.weight_shape': np.array([16, 16], np.int32),
  },
  'NVFP4': {
    'l.weight': np.ones((16, 8), np.uint8),
    'l.weight_scale': np.ones((16, 1), E4M3),
    'l.weight_scale_2': np.ones((), np.float32),
  },
  'scaled twice': {
    'l.weight': np.ones((16, 16), E4M3),
    'l.weight_scale': np.ones((16, 1), np.float32),
    'l.weight_global_scale': np.ones((), np.float32),
  },
  'bitsandbytes': {'l.weight': np.ones((16, 8), np.int8), 'l.SCB': np.ones(16, np.float32)},
  'of 4 bits': {
    'l.weight': np.ones((64, 1), np.uint8),
    'l.weight.absmax': np.ones(2, np.float32),
    'l.weight.quant_map': np.ones((4, 4), np.float32),
  },
  'values only': {
    'l.weight': np.ones((16, 8), np.int8),
    'l.input_scale': np.ones((16, 1), np.float32),
  },
}


def refused(capsys, into, *more):
  """What is said of a file that is left alone."""
  out = into.with_name('out')
  assert main(['prune', str(into), str(out), '--sparsity', '.5', '--quiet', *more]) == 1
  assert not out.exists()
  said = capsys.readouterr().err
  assert said.count('\n') == 1
  return said


@pytest.mark.parametrize('kind', sorted(OTHERS))
def test_what_is_packed_is_refused_unless_left_out(tmp_path, capsys, kind):
  held = {**OTHERS[kind], 'head.weight': RNG.normal(size=(8, 8)).astype(np.float32)}
  into = own(tmp_path / 'in', held)
  said = refused(capsys, into)
  assert '`IN` must be weights that are not quantised; got ' in said
  assert 'Dequantise the weights first (weight times scale, in a floating dtype), or leave' in said
  run('prune', into, tmp_path / 'some', '--sparsity', '.5', '--where', 'head', '--quiet')
  found, masks = jprune.load(tmp_path / 'some')
  assert int(masks['head.weight'].sum()) == 32
  for name, leaf in OTHERS[kind].items():
    assert masks[name] is None
    assert np.asarray(found[name]).tobytes() == leaf.tobytes()
  weights = next(iter(held))
  assert f"at leaf '{weights}'" in refused(capsys, into, '--where', weights)


def test_what_scales_do_not_tell(tmp_path, capsys):
  weight = np.ones((16, 12), np.int8)
  file = lambda **more: own(tmp_path / 'in', {'weight': weight, **more})
  said = refused(capsys, file(weight_scale=np.ones((16, 5), np.float32)))
  assert 'of weights with floating scales for a tensor, its channels or its blocks; got' in said
  assert "scales 'weight_scale' of float32 of shape (16, 5) for weights of shape (16, 12)" in said
  ones = lambda *shape, dtype=np.float32: np.ones(shape, dtype)
  for scale in (ones(16, 1, dtype=np.uint8), ones(5), ones(1, 16, 1)):
    assert 'of weights with floating scales' in refused(capsys, file(weight_scale=scale))
  scale, zeros = np.ones((16, 1), np.float32), np.zeros((16, 1), np.int8)
  zeros[3] = 5
  into = file(weight_scale=scale, weight_zero_point=zeros)
  said = refused(capsys, into)
  assert "0 stands for 0.0; got zero points 'weight_zero_point' other than 0 at leaf 'we" in said
  assert 'other than 0' in refused(capsys, into, '--scorer', 'random')
  said = refused(capsys, into, '--where', 'weight_scale')
  assert "a filter of weights; got what quantises 'weight' at leaf 'weight_scale'. Scales" in said
  said = refused(capsys, into, '--where', 'weight_zero_point')
  assert "a filter of floating leaves; got int8 of shape (16, 1) at leaf 'weight_zero_p" in said
  nan = np.full((16, 1), np.nan, np.float32)
  assert "got NaN at leaf 'weight'" in refused(capsys, file(weight_scale=nan))


def test_float8_without_scales(tmp_path, capsys):
  """A number by itself where none are scaled; else it may have lost its scale."""
  held = {'a.weight': drawn(E4M3, 8, 8), 'b.weight': drawn(E4M3, 8, 8)}
  together = ['--distribution', 'global']
  run('prune', own(tmp_path / 'in', held), tmp_path / 'all', '--sparsity', '.5', *together)
  into = own(tmp_path / 'in', {**held, 'a.weight_scale': np.ones((), np.float32)})
  run('prune', into, tmp_path / 'each', '--sparsity', '.5')
  said = refused(capsys, into, *together)
  assert "float8 weights without scales beside them at leaf 'b.weight'. Prune every leaf by" in said
  run('prune', into, tmp_path / 'b', '--sparsity', '.5', *together, '--where', 'a.weight')


def test_scales_go_to_the_weights_of_their_name():
  paths = [
    *('e.down_proj', 'e.down_proj_scale', 'e.up_proj', 'e.up_proj_scale', 'e.up_proj_scale_2'),
    *('e.input_scale', 'norm.scale', 'e.down_proj_zero_point'),
  ]
  dtypes = ['int8', 'float32', 'int8', 'float32', 'float32', 'float32', 'float32', 'int8']
  down, _, up, *others = quantised(paths, dtypes)
  assert down == ('e.down_proj_scale', 'e.down_proj_zero_point', True)
  assert up == ('e.up_proj_scale', None, False)
  assert others == [None] * 5
