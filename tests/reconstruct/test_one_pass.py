"""One pass through the model, against running all of it anew before each stage."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jprune
from jprune import reconstruct
from jprune.reconstruct import _one_pass
from tests.reconstruct.recaptured import recaptured

WIDTH = 8
HOW = {'sparsity': 0.5, 'sequential': True, 'progress': False}


def draw(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / 2, jnp.float32)


def block(x, layer):
  """Attention and a gated MLP."""
  norm = lambda x: x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-3)
  h = norm(x) * layer['norm']
  q, k, v = (h @ layer[name] for name in ('q', 'k', 'v'))
  scores = jax.nn.softmax(jnp.einsum('btd,bsd->bts', q, k), axis=-1)
  x = x + jnp.einsum('bts,bsd->btd', scores, v) @ layer['o']
  h = norm(x)
  return x + (jax.nn.silu(h @ layer['gate']) * (h @ layer['up'])) @ layer['down']


def layer(seed):
  of = lambda i, *shape: draw(*shape, seed=10 * seed + i)
  square = {name: of(i, WIDTH, WIDTH) for i, name in enumerate('qkvo')}
  wide = {'gate': of(5, WIDTH, 12), 'up': of(6, WIDTH, 12), 'down': of(7, 12, WIDTH)}
  return square | wide | {'norm': jnp.ones((1, 1, WIDTH)) + of(8, 1, 1, WIDTH) / 4}


def decoder(count):
  return {'table': draw(11, WIDTH, seed=99), 'layers': [layer(i) for i in range(count)]}


def stacked(params, axis=0):
  layers = jax.tree.map(lambda *leaves: jnp.stack(leaves, axis), *params['layers'])
  return params | {'layers': layers}


def unrolled(params, tokens):
  x = params['table'][tokens]
  for each in params['layers']:
    x = jax.checkpoint(block)(x, each)
  return x @ params['table'].T


def scanned(params, tokens, axis=0, reverse=False, dtype=jnp.float32):
  """Steps along an axis of the leaves, cast before; collects something on the way."""
  layers = jax.tree.map(lambda w: jnp.moveaxis(w.astype(dtype), axis, 0), params['layers'])

  def step(x, layer):
    layer = jax.tree.map(lambda w: w.astype(jnp.float32), layer)
    return jax.checkpoint(block)(x, layer), x.mean()

  x, means = jax.lax.scan(step, params['table'][tokens], layers, reverse=reverse)
  return x @ params['table'].T + means.sum()


@pytest.fixture(scope='module')
def batches():
  rng = np.random.default_rng(1)
  return [jnp.asarray(rng.integers(0, 11, size=(rows, 6))) for rows in (4, 4, 3)]


def check(fn, params, batches, expected=None, **how):
  """The same as with all of the model run anew; the report."""
  weights = how.get('sample_weights')
  *expected, _, stages = expected or recaptured(fn, params, batches, 0.5, weights=weights)
  new, masks, report = reconstruct.prune(fn, params, iter(batches), **HOW, **how)
  for one, other in zip(jax.tree.leaves(masks), jax.tree.leaves(expected[1]), strict=True):
    np.testing.assert_array_equal(one, other)
  for one, other in zip(jax.tree.leaves(new), jax.tree.leaves(expected[0]), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
  return report, stages


@pytest.fixture
def apart(monkeypatch):
  """Fails if a function isn't taken apart."""
  original = _one_pass._fitted

  def fitted(*args):
    assert original(*args)
    return True

  monkeypatch.setattr(_one_pass, '_fitted', fitted)


@pytest.mark.parametrize(
  ('fn', 'of'),
  [
    (unrolled, lambda params: params),
    (scanned, stacked),
    (functools.partial(scanned, reverse=True), stacked),
    (
      functools.partial(scanned, axis=-1, dtype=jnp.bfloat16),
      functools.partial(stacked, axis=-1),
    ),
  ],
  ids=['unrolled', 'scan', 'backwards', 'cast, along the last axis'],
)
def test_a_decoder(fn, of, batches, apart):
  report, stages = check(fn, of(decoder(3)), batches)
  assert stages == 3 * 4 + 1
  assert 0.9 < report.passes < 1.1
  often = 'once' if report.passes == 1 else f'{report.passes:.4g} times'
  assert f'The model was run {often} over all batches.' in str(report)
  assert report.to_dict()['passes'] == report.passes


def test_passes_do_not_grow_with_layers(batches, apart, compilations):
  passes = {}
  for count in (4, 8, 16):
    for fn, of in ((unrolled, lambda params: params), (scanned, stacked)):
      compilations.clear()
      report = reconstruct.prune(fn, of(decoder(count)), batches, **HOW)[2]
      passes[fn, count] = report.passes
      if fn is unrolled and count > 4:  # layers that are alike share what is compiled
        assert len(compilations) < 10
  assert max(passes.values()) < 1.1


# ------------------------------------------------------------------------------ what is hard to cut


def twice(params, x):
  """A leaf at two places, with others between them."""
  x = jnp.tanh(x @ params['a'])
  x = jnp.tanh(x @ params['b'])
  return jnp.tanh(x @ params['a']) @ params['c']


def read_early(params, x):
  """A leaf that is added before it is multiplied by, and others after that."""
  x = jnp.tanh((x + params['b'][:1]) @ params['a'])
  return jnp.tanh(x @ params['b']) @ params['c']


def in_a_while(params, x):
  x = jnp.tanh(x @ params['a'])
  turn = lambda state: (state[0] + 1, jnp.tanh(state[1] @ params['b']))
  _, x = jax.lax.while_loop(lambda state: state[0] < 3, turn, (0, x))
  return x @ params['c']


def in_a_branch(params, x):
  x = jax.lax.cond(x.sum() > 0, lambda x: x @ params['a'], lambda x: x @ params['b'], x)
  return x @ params['c']


def steps_and_more(params, x):
  """A scan over one leaf, in which another is used in each step; and a step is used outside."""
  step = lambda x, w: (jnp.tanh(x @ w) @ params['a'], None)
  x = jax.lax.scan(step, x, params['steps'])[0]
  return (x + params['steps'][1].sum()) @ params['b'] @ params['c']


def not_by_parts(params, x):
  """Steps of what is computed from all of a leaf."""
  step = lambda x, w: (jnp.tanh(x @ w), None)
  steps = jnp.concatenate([params['steps'][:1], params['steps'][1:]])
  return jax.lax.scan(step, x @ params['a'], steps)[0] @ params['b'] @ params['c']


def collecting(params, x):
  """A scan over leaves and data, of which all is collected, in a scan."""

  def step(x, given):
    w, bias = given
    x = jnp.tanh(x @ w + bias)
    return x, x

  outer = lambda x, ws: jax.lax.scan(step, x, (ws, jnp.stack([x, 2 * x])))
  x, ys = jax.lax.scan(outer, x @ params['a'], jnp.stack([params['steps'][:2]] * 2))
  return (x + ys.sum((0, 1))) @ params['b'] @ params['c']


def through_a_constant(params, x):
  table = np.linspace(0, 1, 4 * WIDTH, dtype=np.float32).reshape(4, WIDTH)
  for i, name in enumerate('abc'):
    x = jnp.tanh(x @ params[name]) + table[i][None]
  return x


@pytest.mark.parametrize(
  'fn',
  [
    twice,
    read_early,
    in_a_while,
    in_a_branch,
    steps_and_more,
    not_by_parts,
    collecting,
    through_a_constant,
  ],
)
def test_what_is_hard_to_cut(fn):
  square = lambda seed: draw(WIDTH, WIDTH, seed=seed)
  params = {name: square(i) for i, name in enumerate('abc')}
  params['steps'] = draw(3, WIDTH, WIDTH, seed=7)
  check(fn, params, [draw(20, WIDTH, seed=8), draw(20, WIDTH, seed=9)])


def test_weights_of_tokens(batches, apart):
  weights = lambda tokens: (tokens > 2).astype(jnp.float32)
  report, _ = check(unrolled, decoder(2), batches, sample_weights=weights)
  assert report.passes < 1.5


def test_weights_of_tokens_whose_axes_change_places(apart):
  def fn(params, x):
    x = jnp.tanh(x @ params['a'])
    y = jnp.tanh(jnp.moveaxis(x, 1, 0) @ params['b'])  # in which their axes come second and first
    return y @ params['c']

  params = {name: draw(WIDTH, WIDTH, seed=i) for i, name in enumerate('abc')}
  x = draw(5, 5, WIDTH, seed=4)
  check(fn, params, [x], sample_weights=lambda x: (x[..., 0] > 0).astype(jnp.float32))


def test_a_function_that_cannot_be_taken_apart(batches, monkeypatch):
  monkeypatch.setattr(_one_pass, '_fitted', lambda *_: False)
  report, stages = check(scanned, stacked(decoder(2)), batches)
  assert report.passes == stages


def test_values_wait_in_files(batches, tmp_path, monkeypatch):
  monkeypatch.setattr('jprune.reconstruct._caches._SMALL', 64)
  params = decoder(2)
  expected = reconstruct.prune(unrolled, params, batches, **HOW)
  seen = []

  def method(*args, **kwargs):
    seen.append(sum(path.stat().st_size for path in tmp_path.rglob('*') if path.is_file()))
    return reconstruct.sparsegpt(*args, **kwargs)

  found = reconstruct.prune(unrolled, params, batches, method=method, cache_dir=tmp_path, **HOW)
  for one, other in zip(jax.tree.leaves(found[:2]), jax.tree.leaves(expected[:2]), strict=True):
    np.testing.assert_array_equal(one, other)
  tokens = sum(batch.size for batch in batches)
  assert max(seen) < 8 * tokens * WIDTH * 4  # what is alive at a cut, not all that ever was
  assert tokens * WIDTH * 4 <= seen[-1]
  assert not list(tmp_path.iterdir())

  def failing(*args, **kwargs):
    raise RuntimeError('no')

  with pytest.raises(RuntimeError, match='no'):
    reconstruct.prune(unrolled, params, batches, method=failing, cache_dir=tmp_path, **HOW)
  assert not list(tmp_path.iterdir())


def test_batches_in_one_buffer(batches):
  given = [np.asarray(batch) for batch in batches[:2]]

  def refilled():
    buffer = np.empty_like(given[0])
    for batch in given:
      buffer[:] = batch
      yield buffer

  call = functools.partial(reconstruct.prune, unrolled, decoder(1), **HOW)
  one, two = call(refilled()), call(given)
  jax.tree.map(np.testing.assert_array_equal, one[:2], two[:2])


@pytest.mark.parametrize(
  'scale', [2.0, 2, jnp.where(np.arange(WIDTH) > 2, 1.0, 2.0)[None]], ids=str
)
def test_numbers_take_the_dtype_of_what_they_meet(scale, apart):
  def fn(params, x, scale):
    assert (x * scale).dtype == jnp.bfloat16
    return jnp.tanh(x @ params['a'] * scale) @ params['b']

  params = {name: draw(WIDTH, WIDTH, seed=i).astype(jnp.bfloat16) for i, name in enumerate('ab')}
  check(fn, params, [(draw(20, WIDTH, seed=2).astype(jnp.bfloat16), scale)])


@pytest.mark.parametrize(
  ('how', 'error', 'message'),
  [
    ({'cache_dir': 'none'}, FileNotFoundError, 'an existing folder; got .*none.*Create it first'),
    ({'cache_dir': 'none', 'sequential': False}, ValueError, 'None unless sequential; got .*none'),
    ({'cache_dir': 3}, TypeError, 'a str or os.PathLike; got int'),
  ],
)
def test_folders_that_do_not_do(how, error, message, batches):
  with pytest.raises(error, match=r'reconstruct\.prune: `cache_dir` must be ' + message):
    reconstruct.prune(unrolled, decoder(1), batches, **{**HOW, **how})


def test_scores_and_the_pass_read_the_batches_once(batches):
  distribution = functools.partial(jprune.distributions.owl, lam=0.2)
  call = functools.partial(
    reconstruct.prune, unrolled, decoder(2), distribution=distribution, **HOW
  )
  one, two = call(batches), call(iter(batches), chunked=True)
  for a, b in zip(jax.tree.leaves(one[:2]), jax.tree.leaves(two[:2]), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  assert 1.9 < one[2].passes < 2.1
