"""Multiply-adds: totals, leaves, what masks leave of them."""

import functools
import html.parser
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jprune
from jprune import tree
from jprune.graph import MacCount, Macs, channels, macs
from tests import networks
from tests.graph.shapes import of_leaves, some, struct
from tests.zoo import CASES, made

# ------------------------------------------------------------------------------------- published


@pytest.mark.parametrize(
  ('make', 'expected'),
  [(networks.resnet50, 4_089_184_256), (networks.resnet18, 1_814_073_344)],
)
def test_residual_networks_have_the_published_counts(make, expected):
  fn, variables, args = make()
  count = macs(fn, variables, *args)
  assert count.dense == count.sparse == count.shrunk == expected
  assert count.dense == channels(fn, variables, *args).macs_at()
  assert count.others == Macs(0, 0, 0)
  assert sum(each.dense for each in count.leaves.values()) == expected
  kernels = [path for path, leaf in count.shapes.items() if len(leaf) >= 2]
  assert list(of_leaves(count)) == kernels
  assert count.leaves['params/Dense_0/kernel'].dense % 1000 == 0
  assert count.skipped == ()


@pytest.mark.parametrize('fused', [False, True])
def test_vision_transformer_has_the_published_count(fused):
  fn, variables, args = networks.vit(fused=fused)
  count = macs(fn, variables, *args)
  tokens, hidden, mlp = 14 * 14 + 1, 768, 3072
  patches = 14 * 14 * 16 * 16 * 3 * hidden
  scores = 12 * 2 * tokens**2 * hidden
  blocks = 12 * tokens * (4 * hidden**2 + 2 * hidden * mlp)
  assert count.others.dense == scores
  assert count.dense == patches + blocks + scores + hidden * 1000 == 17_563_828_224
  assert all(type(each) is int for each in (*count.others, count.dense, count.shrunk))
  assert all(row.line for row in count.equations)


def test_scanned_and_unrolled_decoders_have_the_same_count():
  unrolled, scanned = (networks.llama(scan=scan) for scan in (False, True))
  one = macs(unrolled.fn, unrolled.variables, *unrolled.args)
  other = macs(scanned.fn, scanned.variables, *scanned.args)
  assert one.dense == other.dense
  assert one.others == other.others
  assert {row.times for row in other.equations} == {1, 32}
  down = [path for path in one.leaves if path.endswith('down/kernel')]
  assert sum(one.leaves[path].dense for path in down) == (
    other.leaves['params/blocks/down/kernel'].dense
  )


@pytest.mark.parametrize(('sparsity', 'share'), [(0.8, 0.414), (0.9, 0.2418)])
def test_erdos_renyi_kernels_keep_the_published_share(sparsity, share):
  fn, variables, args = networks.resnet50()
  paths, leaves, treedef = tree.flatten(variables)
  kernels = [leaf if leaf.ndim >= 2 else None for leaf in leaves]
  wanted = jprune.distributions.erk(variables, treedef.unflatten(kernels), sparsity)
  found = []
  for leaf, each in zip(leaves, tree.along(variables, wanted)):
    pruned = None if each is None else round(each * leaf.size)
    found.append(None if each is None else (np.arange(leaf.size) >= pruned).reshape(leaf.shape))
  count = macs(fn, variables, *args, masks=treedef.unflatten(found), strict=False)
  assert count.sparse / count.dense == pytest.approx(share, abs=5e-4)
  assert count.dense == 4_089_184_256
  for path, leaf, mask in zip(paths, leaves, found):
    if mask is not None:
      dense, sparse, _ = count.leaves[path]
      assert sparse * leaf.size == dense * int(mask.sum())


# ------------------------------------------------------------------------- every function there is


@pytest.mark.parametrize('name', CASES)
def test_totals_of_the_zoo_are_those_of_the_graph(name):
  fn, params, args = made(name)
  graph = channels(fn, params, *args)
  kept = [np.arange(group.size) % 2 == 0 for group in graph.groups]
  paths, leaves, treedef = tree.flatten(params)
  masks = {path: np.ones(leaf.shape, bool) for path, leaf in zip(paths, leaves)}
  for group, keep in zip(graph.groups, kept):
    for path, axis, position in group.members:
      gone = (position.units >= 0) & ~keep[position.units]
      np.moveaxis(masks[path], axis, 0)[gone] = False
  count = macs(fn, params, *args, masks=treedef.unflatten(list(masks.values())), strict=True)
  assert count.dense == graph.macs_at() >= count.sparse
  assert count.shrunk == graph.macs_at(kept)
  assert sum(map(math.prod, count.shapes.values())) == graph.params_at(kept)
  summed = [sum(each) for each in zip(*count.leaves.values(), count.others)]
  assert summed == [count.dense, count.sparse, count.shrunk]
  assert count.partly == {}
  assert json.loads(json.dumps(count.to_dict())) == count.to_dict()
  assert max(map(len, str(count).splitlines())) <= 100


# ------------------------------------------------------------------------------------ control flow


def test_of_branches_the_most_expensive_one_counts():
  def fn(p, x):
    return lax.cond(x[0, 0] > 0, lambda: x @ p['w'] @ p['v'], lambda: x @ p['u'])

  shapes = {'u': struct(6, 5), 'v': struct(4, 5), 'w': struct(6, 4)}
  count = macs(fn, shapes, struct(3, 6))
  assert {path: each.dense for path, each in count.leaves.items()} == {'u': 0, 'v': 60, 'w': 72}
  masks = {'u': None, 'v': np.zeros((4, 5), bool), 'w': np.zeros((6, 4), bool)}
  count = macs(fn, shapes, struct(3, 6), masks=masks)
  assert (count.dense, count.sparse, count.leaves['u']) == (132, 90, Macs(0, 90, 90))


def test_a_while_loop_counts_once_and_says_so():
  fn = lambda p, x: lax.while_loop(lambda x: x.sum() < 9.0, lambda x: x @ p['w'], x)
  count = macs(fn, {'w': struct(4, 4)}, struct(2, 4))
  assert count.dense == 32
  ((name, why),) = count.skipped
  assert name.startswith('while (test_macs.py:')
  assert why.startswith('its products are counted once')
  assert f'Skipped:\n  {name}: its products' in str(count)
  quiet = lambda p, x: lax.while_loop(lambda x: x.sum() < 9.0, lambda x: x + 1.0, x) @ p['w']
  assert macs(quiet, {'w': struct(4, 4)}, struct(2, 4)).skipped == ()


def test_unknown_primitives_are_named():
  fn = lambda p, x: jnp.linalg.cholesky(p['w'] @ p['w'].T) @ x
  count = macs(fn, {'w': struct(4, 4)}, struct(4))
  assert [name.split()[0] for name, _ in count.skipped] == ['cholesky']


def test_dead_equations_do_not_count():
  def fn(p, x):
    _ = x @ p['w'] @ p['w']
    return x @ p['w']

  assert macs(fn, {'w': struct(4, 4)}, struct(2, 4)).dense == 32


def test_ragged_products():
  fn = lambda p, x, n: lax.ragged_dot(x, p['w'], n)
  count = macs(fn, {'w': struct(3, 4, 5)}, struct(7, 4), struct(3, dtype=jnp.int32))
  assert of_leaves(count) == {'w': Macs(*[7 * 4 * 5] * 3)}


def test_grouped_and_strided_convolutions():
  def fn(p, x):
    return lax.conv_general_dilated(
      x, p['w'], (2, 1), 'SAME', feature_group_count=2, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )

  mask = some(3, 3, 4, 6)
  count = macs(fn, {'w': struct(3, 3, 4, 6)}, struct(2, 8, 5, 8), masks={'w': mask})
  assert count.dense == 2 * 4 * 5 * 6 * 3 * 3 * 4
  assert count.sparse == 2 * 4 * 5 * mask.sum()


DILATED = [
  {'window': (2, 2), 'lhs_dilation': (2, 2)},
  {'window': (3, 2), 'lhs_dilation': (2, 3), 'strides': (1, 2)},
  {'window': (4, 3), 'lhs_dilation': (3, 1), 'rhs_dilation': (2, 2)},
  {'window': (3, 3), 'lhs_dilation': (4, 2), 'strides': (3, 2), 'rhs_dilation': (1, 3)},
  {'window': (3, 3), 'lhs_dilation': (2, 3), 'padding': ((2, 4), (6, 3))},
]


@pytest.mark.parametrize('options', DILATED)
def test_zeros_that_are_put_between_pixels_are_not_multiplied(options):
  """Of ones by ones the result is how many products it is the sum of."""
  options = {'strides': (1, 1), 'padding': ((0, 0), (0, 0)), **options}
  window, strides, padding = (options.pop(key) for key in ('window', 'strides', 'padding'))
  conv = functools.partial(
    lax.conv_general_dilated,
    window_strides=strides,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    **options,
  )
  x = np.ones((2, 5, 6, 3))
  count = macs(lambda w, x: conv(x, w, padding=padding), np.ones((*window, 3, 4)), x)
  apart = options['lhs_dilation']
  pixels = [tuple(n // k for n in sides) for sides, k in zip(padding, apart)]  # of the padding
  x = np.pad(x, ((0, 0), *pixels, (0, 0)), constant_values=1)
  assert count.dense == conv(x, np.ones((*window, 3, 4)), padding=((0, 0), (0, 0))).sum()


def test_a_transposed_convolution_multiplies_each_pixel_by_each_weight():
  def fn(params, x):
    x = jax.nn.relu(lax.conv_transpose(x, params['up'], (2, 2), 'SAME'))
    return lax.conv_transpose(x, params['out'], (2, 2), 'VALID').sum((1, 2))

  keep = np.arange(6) < 4
  masks = {'up': np.tile(keep, (4, 4, 3, 1)), 'out': np.tile(keep[:, None], (2, 2, 1, 5))}
  shapes = {'up': struct(4, 4, 3, 6), 'out': struct(2, 2, 6, 5)}
  count = macs(fn, shapes, struct(1, 8, 8, 3), masks=masks)
  up, out = 8 * 8 * 4 * 4 * 3, 16 * 16 * 2 * 2 * 5
  assert of_leaves(count) == {
    'up': Macs(up * 6, up * 4, up * 4),
    'out': Macs(out * 6, out * 4, out * 4),
  }


# ------------------------------------------------------------------------------------------- masks

PAIR = {'in': struct(3, 8), 'out': struct(8, 2)}


def pair(params, x):
  return jax.nn.relu(x @ params['in']) @ params['out']


def test_shrunk_leaves_out_what_shrink_leaves_out():
  keep = np.arange(8) < 5
  masks = {'in': np.tile(keep, (3, 1)), 'out': None}
  count = macs(pair, PAIR, struct(1, 3), masks=masks, strict=False)
  assert (count.dense, count.sparse, count.shrunk) == (40, 31, 40)
  assert count.partly == {'in[1]': 3}
  assert 'Not shrunk: 3 units of 1 group, pruned in some of their members only.' in str(count)
  masks['out'] = np.tile(keep[:, None], (1, 2))
  count = macs(pair, PAIR, struct(1, 3), masks=masks)
  assert (count.dense, count.sparse, count.shrunk) == (40, 25, 25)
  assert count.shapes == {'in': (3, 5), 'out': (5, 2)}
  assert count.partly == {}
  params = jax.tree.map(lambda s: jnp.ones(s.shape), PAIR)
  small = jprune.shrink(pair, params, masks, jnp.ones((1, 3)))
  assert macs(small.fn, small.params, jnp.ones((1, 3))).dense == 25


def test_packed_masks():
  masks = {'in': some(3, 8), 'out': None}
  count = lambda masks: macs(pair, PAIR, struct(1, 3), masks=masks, strict=False)
  assert count(masks).to_dict() == count(jprune.masks.pack(masks)).to_dict()


def test_inconsistent_masks_are_refused():
  masks = {'in': np.tile(np.arange(8) < 5, (3, 1)), 'out': None}
  with pytest.raises(ValueError, match=r"macs: `masks` must prune a unit in all .* leaf 'out'"):
    macs(pair, PAIR, struct(1, 3), masks=masks)


@pytest.mark.parametrize(
  ('call', 'error', 'message'),
  [
    (lambda: macs(3, PAIR), TypeError, r'macs: `fn` must be a function .* got int'),
    (lambda: macs(pair, PAIR), TypeError, r'macs: `fn` must be a function that takes these'),
    (lambda: macs(pair, {}, struct(1, 3)), ValueError, r'macs: `params` must be a tree with at'),
    (
      lambda: macs(pair, PAIR, struct(1, 3), masks={'in': None}),
      ValueError,
      r"macs: `masks` must be a tree .* 'out'",
    ),
    (
      lambda: macs(pair, PAIR, struct(1, 3), masks={'in': struct(3, 8, dtype=bool), 'out': None}),
      TypeError,
      r"macs: `masks` must be arrays with values .* at leaf 'in'",
    ),
  ],
)
def test_bad_input(call, error, message):
  with pytest.raises(error, match=message):
    call()


# ------------------------------------------------------------------------------------------- shown


def test_text_without_masks():
  assert str(macs(pair, PAIR, struct(1, 3))) == '\n'.join(
    [
      'leaf               MACs   share',
      '-------------------------------',
      'in                   24  60.00%',
      'out                  16  40.00%',
      '-------------------------------',
      'total, 2 products    40',
    ]
  )
  assert repr(macs(pair, PAIR, struct(1, 3))) == 'MacCount(40 multiply-adds)'


def test_other_products_of_one_line_are_one_row():
  def fn(p, x):
    for _ in range(3):
      x = x @ x
    return x @ p['w']

  lines = str(macs(fn, {'w': struct(4, 4)}, struct(4, 4))).splitlines()
  assert [line.split()[-1] for line in lines[2:4]] == ['25.00%', '75.00%']
  assert lines[3].startswith('(dot_general, test_macs.py:')


def test_long_names_are_cut_and_keys_cannot_break_the_layout():
  name = 'a\nb' + '<x>' * 60
  count = macs(lambda p, x: x @ p[name], {name: struct(4, 4)}, struct(4))
  assert max(map(len, str(count).splitlines())) <= 100
  assert str(count).splitlines()[2].startswith('a␊b<x>')


def test_html_is_well_formed_and_escaped():
  page = macs(lambda p, x: x @ p['<i>'], {'<i>': struct(4, 4)}, struct(4))._repr_html_()
  assert '&lt;i&gt;' in page
  assert '<i>' not in page
  opened = []

  class Page(html.parser.HTMLParser):
    handle_starttag = lambda self, tag, attrs: opened.append(tag)
    handle_endtag = lambda self, tag: opened.remove(tag)

  Page().feed(page)
  assert opened == []


def test_nothing_to_count():
  count = macs(lambda p, x: p['w'] + x, {'w': struct(4)}, struct(4))
  assert isinstance(count, MacCount)
  assert (count.dense, count.equations, of_leaves(count)) == (0, (), {})
  assert str(count).splitlines()[-1].split() == ['total,', '0', 'products', '0']


def test_counts_are_exact_at_any_size():
  count = macs(
    lambda p, x: functools.reduce(lambda y, _: y @ p['w'], range(2), x),
    {'w': struct(2**21, 2**21)},
    struct(2**22, 2**21),
  )
  assert count.dense == 2 * 2**64
