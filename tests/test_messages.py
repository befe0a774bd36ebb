"""What users are told who took one thing for another: the words, short, and never an array."""

from __future__ import annotations

import functools
import inspect
import pathlib
import re
from typing import Any

import equinox
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training import train_state

import jprune
import jprune.nnx

X = jnp.ones((2, 6))


class Mlp(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(4)(nn.relu(nn.Dense(8)(x)))


class Net(nnx.Module):
  def __init__(self):
    rngs = nnx.Rngs(0)
    self.first, self.last = nnx.Linear(6, 8, rngs=rngs), nnx.Linear(8, 4, rngs=rngs)
    self.norm, self.drop = nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

  def __call__(self, x):
    return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))


MODEL = Mlp()
VARIABLES = MODEL.init(jax.random.key(0), X)
PARAMS = VARIABLES['params']
FN = lambda params, x: MODEL.apply({'params': params}, x)
LOSS = lambda params, x: jnp.mean(jnp.square(FN(params, x)))
NET = Net()
STATE = nnx.state(NET, nnx.Not(nnx.RngState))
KERNELS = {path: 0.5 for path in jprune.tree.flatten(PARAMS)[0] if 'kernel' in path}

# by their names alone: neither library is imported
TORCH = type('Module', (), {'__module__': 'torch.nn.modules.module'})
HAIKU = type('Transformed', (), {'__module__': 'haiku._src.transform'})


@functools.cache
def masks() -> Any:
  return jprune.prune(PARAMS, 0.5)


@functools.cache
def graph() -> Any:
  return jprune.graph.channels(FN, PARAMS, X)


def units(sparsity: float) -> Any:
  return jprune.masks.channels(jprune.scores.magnitude(PARAMS), graph(), sparsity)


def said(call: Any, error: type[Exception], words: str, *args: Any) -> str:
  """What a call raises: of this type, these words, short, and no array's numbers."""
  with pytest.raises(error, match=words) as caught:
    call(*args)
  assert type(caught.value) is error
  text = str(caught.value)
  assert len(text) <= 450, text
  assert '\n' not in text, text
  assert not re.search(r'\bArray\(|\barray\(\[| at 0x', text), text
  return text


# ---------------------------------------------------------------------- arguments and words

SPELLED = {
  'prune': (lambda: jprune.prune(PARAMS, sparsty=0.5), 'prune: `sparsty` .* of prune or of its s'),
  'prune, after a scorer': (
    lambda: jprune.prune(PARAMS, 0.5, scorer=jprune.scores.snip, loss_fn=LOSS, distributon=None),
    'prune: `distributon` must be .* its scorer snip; got none of that name. Did .* distribution=',
  ),
  'prune, for its scorer': (
    lambda: jprune.prune(PARAMS, 0.5, pp=2),
    r'prune: `pp` .* scorer magnitude; .*Did you mean p=\?',
  ),
  'prune, beside scores': (
    lambda: jprune.prune(PARAMS, scorer=jprune.scores.magnitude(PARAMS), sparsty=0.5),
    r'Did you mean sparsity=\?',
  ),
  'tally': (lambda: jprune.tally(PARAMS, maskss=None), r'tally: .* Did you mean masks=\?'),
  'shrink': (
    lambda: jprune.shrink(FN, PARAMS, None, X, smal_outputs='a'),
    "shrink: `args` must be positional; got the keyword 'smal_outputs'. Did you mean small_outputs",
  ),
  'reconstruct.prune': (
    lambda: jprune.reconstruct.prune(FN, PARAMS, [X], sparsty=0.5),
    r'reconstruct.prune: `sparsty` .*Did you mean sparsity=\?',
  ),
  'nothing like it': (
    lambda: jprune.reconstruct.prune(FN, PARAMS, [X], zzz=0.5),
    'There are fn=, params=, .* and 9 more',
  ),
  'gradual': (
    lambda: jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=3, distributon=1),
    r'gradual: `distributon` .*Did you mean distribution=\?',
  ),
  'gradual, its own': (
    lambda: jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=3, edn=1),
    r'gradual: `edn` .*Did you mean end=\?',
  ),
}


SPELLED |= {
  'params of prune': (
    lambda: jprune.prune(parms=PARAMS),
    r'prune: `parms` .*Did you mean params=\?',
  ),
  'masks of shrink': (
    lambda: jprune.shrink(FN, PARAMS, mask=None),
    r'shrink: `mask` .*Did you mean masks=\?',
  ),
}


@pytest.mark.parametrize('name', SPELLED)
def test_a_misspelt_keyword(name):
  call, words = SPELLED[name]
  said(call, TypeError, words)


METHODS = (
  'gradual', 'movement', 'straight_through', 'ac_dc', 'sr_ste', 's_ste', 'admm', 'static',
  'sparse_evolution', 'rigl', 'granet', 'mest', 'srigl',
)  # fmt: skip


@pytest.mark.parametrize('name', METHODS)
def test_a_misspelt_keyword_is_told_before_one_that_is_missing(name):
  method = getattr(jprune.transforms, name)
  words = f'^{name}: `edn` must be an argument of {name}; got none of that name. (Did|There)'
  said(lambda: method(optax.sgd(0.1), edn=3), TypeError, words)
  given = {'every': 3, 'end': 9, 'begin': 0, 'key': jax.random.key(0), 'evry': 3}
  own = inspect.signature(method).parameters
  given = {key: value for key, value in given.items() if key in own or key == 'evry'}
  said(lambda: method(optax.sgd(0.1), 0.5, **given), TypeError, f'^{name}: `evry` must be')


def test_every_method_is_among_those():
  takes_settings = lambda each: callable(each) and 'settings' in inspect.signature(each).parameters
  public = {name: getattr(jprune.transforms, name) for name in jprune.transforms.__all__}
  functions = {name for name, each in public.items() if inspect.isfunction(each)}
  assert {name for name in functions if takes_settings(public[name])} == set(METHODS)


GIVEN = [
  (jprune.scores.wanda, r"wanda without 'stats'. Pass stats=jprune.graph.capture_batches\(fn, "),
  (jprune.scores.taylor, r"without 'grads'. Pass grads=jax.grad\(loss_fn\)\(params, batch\).$"),
  (
    jprune.scores.snip,
    r"without 'loss_fn'. Pass the scores: scorer=jprune.scores.snip\(params, loss_fn, ...\).$",
  ),
  (lambda params, odd: params, r"without 'odd'. Pass odd=....$"),
]


@pytest.mark.parametrize(('scorer', 'words'), GIVEN, ids=['stats', 'grads', 'batches', 'own'])
def test_what_a_scorer_lacks(scorer, words):
  said(lambda: jprune.prune(PARAMS, 0.5, scorer=scorer), TypeError, words)
  if scorer is not jprune.scores.taylor:  # to which training gives them
    words = r'gradual: .*Bind them: scorer=functools.partial\([\w.<>]*, \w*=.*\).$'
    make = lambda: jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=3, scorer=scorer)
    said(make, TypeError, words)


ALONE = r'To prune by a scorer alone: method=None, scorer=jprune.scores.{}.$'


@pytest.mark.parametrize(
  ('given', 'words'),
  [
    ({'method': jprune.scores.wanda}, f'got the function wanda. {ALONE.format("wanda")}'),
    ({'method': jprune.scores.snip}, ALONE.format('snip')),
    ({'method': 'wanda'}, ALONE.format('wanda')),
    ({'method': 'Magnitude'}, ALONE.format('magnitude')),
    ({'method': 'sparsegpt'}, 'Pass the function itself: jprune.reconstruct.sparsegpt.$'),
    ({'method': 'SparseGPT'}, 'Pass the function itself: jprune.reconstruct.sparsegpt.$'),
    ({'method': 'least-squares'}, 'jprune.reconstruct.least_squares.$'),
    ({'method': 'zzz'}, "got 'zzz'. For example jprune.reconstruct.sparsegpt.$"),
    ({'method': jprune.prune}, r'got the function prune \(too many .*\). Bind options'),
    ({'scorer': jprune.reconstruct.alps}, 'It is a method: method=jprune.reconstruct.alps.$'),
    ({'scorer': 'sparsegpt'}, 'It is a method: method=jprune.reconstruct.sparsegpt.$'),
  ],
  ids=range(11),
)
def test_a_scorer_for_a_solver_and_the_reverse(given, words):
  call = lambda: jprune.reconstruct.prune(FN, PARAMS, [X], sparsity=0.5, **given)
  said(call, TypeError, words)
  if 'method' in given and given['method'] is not jprune.prune:
    words = 'Pass None for masks by a scorer.$' if 'scores' in words else words
    said(lambda: jprune.reconstruct.plan(FN, PARAMS, X, **given), TypeError, words)


def test_how_often_a_model_was_run():
  told = lambda passes: str(jprune.reconstruct.Repair('sparsegpt', (), passes=passes))
  assert 'The model was run once over all batches.' in told(1.0)
  assert 'The model was run 1.5 times over all batches.' in told(1.5)


SPARSITIES = [
  ('90%', TypeError, "must be a number; got '90%'. Write 0.9.$"),
  ('0.9', TypeError, "must be a number; got '0.9'. Write 0.9.$"),
  ('most', TypeError, "must be a number; got 'most'.$"),
  (90, ValueError, r'must be in \[0, 1\]; got 90.0. .* not a percentage. Write 0.9.$'),
  (1.5, ValueError, 'not a percentage.$'),
  ({1: 0.5, 'a': 0.3}, TypeError, r'distribution=jprune.distributions.fixed'),
  (KERNELS, TypeError, r'distribution=jprune.distributions.fixed\(\{path: sparsity\}\)'),
  (jnp.ones(99), TypeError, r'must be a number; got float32 of shape \(99,\)'),
  ('2:4', TypeError, r'Pass pattern=jprune.NOfM\(2, 4\)'),
  (jprune.NOfM(2, 4), TypeError, r'got NOfM\(.*Pass it as pattern=.$'),
]


@pytest.mark.parametrize(('sparsity', 'error', 'words'), SPARSITIES, ids=range(len(SPARSITIES)))
def test_what_is_no_sparsity(sparsity, error, words):
  calls = [
    lambda: jprune.prune(PARAMS, sparsity),
    lambda: jprune.masks.top_k_global(jprune.scores.magnitude(PARAMS), sparsity),
    lambda: jprune.transforms.gradual(optax.sgd(0.1), sparsity, every=3),
    lambda: jprune.reconstruct.prune(FN, PARAMS, [X], sparsity=sparsity),
  ]
  for call in calls:
    said(call, error, words)


@pytest.mark.parametrize(
  ('pattern', 'words'),
  [
    ('2:4', r"got '2:4'. To keep 2 of every 4 pass jprune.NOfM\(2, 4\).$"),
    ('1 of 4', r'pass jprune.NOfM\(1, 4\).$'),
    ((2, 4), r'pass jprune.NOfM\(2, 4\), for tiles jprune.Block\(\(2, 4\)\)'),
    (2, r'For example jprune.NOfM\(2, 4\), which keeps 2 of every 4'),
    (None, 'For example jprune.NOfM'),
    ('unstructured', r'Pass jprune.Unstructured\(\)'),
    (jprune.Block, r'Call the class: for example jprune.Block\(\(4, 4\)\)'),
  ],
)
def test_what_is_no_pattern(pattern, words):
  scores = jprune.scores.magnitude(PARAMS)
  stats = jprune.graph.capture(FN, PARAMS, X, gram=True)
  calls = [
    lambda: jprune.prune(PARAMS, 0.5, pattern=pattern),
    lambda: jprune.masks.top_k(scores, 0.5, pattern=pattern),
    lambda: jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=3, pattern=pattern),
    lambda: jprune.reconstruct.prune(FN, PARAMS, [X], sparsity=0.5, pattern=pattern),
    lambda: jprune.reconstruct.sparsegpt(PARAMS, stats, sparsity=0.5, pattern=pattern),
    lambda: jprune.sensitivity.run(LOSS, PARAMS, sparsity=0.5, pattern=pattern),
  ]
  for call in calls:
    said(call, TypeError, f'`pattern` must be a pattern; .*{words}')


CHOOSING = [
  lambda given: jprune.prune(PARAMS, 0.5, **given),
  lambda given: jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=3, **given),
  lambda given: jprune.reconstruct.prune(FN, PARAMS, [X], sparsity=0.5, **given),
]


@pytest.mark.parametrize(
  ('argument', 'word', 'words'),
  [
    ('distribution', 'erk', 'Pass the function itself: jprune.distributions.erk.'),
    ('distribution', 'global', 'jprune.distributions.global_.'),
    ('distribution', 'zzz', 'For example jprune.distributions.erk.'),
    ('distribution', KERNELS, r'Pass jprune.distributions.fixed\(...\) of it.'),
    ('scorer', 'magnitude', 'Pass the function itself: jprune.scores.magnitude.'),
    ('scorer', 'wandaa', 'Pass the function itself: jprune.scores.wanda.'),
    ('scorer', 3, 'jprune.scores'),
    ('scorer', jprune.scores, 'For example jprune.scores'),
  ],
)
def test_a_word_for_a_function(argument, word, words):
  for call in CHOOSING:
    said(call, TypeError, f'`{argument}` must be a function.*{words}', {argument: word})


@pytest.mark.parametrize('call', CHOOSING, ids=['prune', 'gradual', 'reconstruct'])
def test_a_function_of_another_kind(call):
  words = '`distribution` must be a distribution; got the scorer lamp. Pass it as scorer=.'
  said(call, TypeError, words, {'distribution': jprune.scores.lamp})
  words = '`scorer` must be a scorer; got the distribution erk. Pass it as distribution=.'
  said(call, TypeError, words, {'scorer': jprune.distributions.erk})


@pytest.mark.parametrize(
  ('entry', 'error', 'words'),
  [
    ('Dense_9', ValueError, r"got where\[1\]='Dense_9', which selects no .*Did you mean"),
    ('bias', ValueError, r"got where\[1\]='bias', which finds only 'Dense_0/bias'"),
    ('(', ValueError, r"got where\[1\]='\('"),
    (lambda path, leaf: False, ValueError, r'where\[1\]=the function <lambda>, which selects no'),
    (3, TypeError, r'got where\[1\]=3. See'),
  ],
  ids=['nothing', 'left out', 'malformed', 'predicate', 'number'],
)
def test_a_dead_entry_of_a_list(entry, error, words):
  said(lambda: jprune.prune(PARAMS, 0.5, where=['Dense_0', entry]), error, words)
  if entry != 'bias':
    said(lambda: jprune.tree.matching(PARAMS, ['Dense_0', entry]), error, words)


# ---------------------------------------------------------------------- modules

AS_PARAMS = [
  (MODEL, r"a linen module, Mlp. .*model.init\(key, x\)\['params'\]"),
  (MODEL.bind(VARIABLES), 'a linen module, Mlp'),
  (Mlp, 'a linen module, the class Mlp'),
  (NET, r'an NNX module, Net. .*jprune.nnx.functional\(model\)'),
  (nnx.Optimizer(NET, optax.sgd(0.1), wrt=nnx.Param), r'an NNX optimizer, .*jprune.nnx.functional'),
  (
    train_state.TrainState.create(apply_fn=MODEL.apply, params=PARAMS, tx=optax.sgd(0.1)),
    'a TrainState. Pass state.params.',
  ),
  (TORCH(), r'a PyTorch module, .*jnp.asarray\(w.numpy\(\)\)'),
  (HAIKU(), r'a Haiku transformed, .*transformed.init\(key, x\)'),
]
IDS = ['linen', 'bound', 'class', 'nnx', 'optimizer', 'state', 'torch', 'haiku']
OF_PARAMS = {
  'prune': lambda p: jprune.prune(p, 0.5),
  'apply': lambda p: jprune.apply(p, masks()),
  'tally': lambda p: jprune.tally(p),
  'shrink': lambda p: jprune.shrink(FN, p, masks(), X),
  'channels': lambda p: jprune.graph.channels(FN, p, X),
  'macs': lambda p: jprune.graph.macs(FN, p, X),
  'roles': lambda p: jprune.graph.roles(FN, p, X),
  'capture': lambda p: jprune.graph.capture(FN, p, X),
  'magnitude': lambda p: jprune.scores.magnitude(p),
  'snip': lambda p: jprune.scores.snip(p, LOSS, X),
  'reconstruct.prune': lambda p: jprune.reconstruct.prune(FN, p, [X], sparsity=0.5),
  'curves': lambda p: jprune.sensitivity.curves(lambda p: 0.0, p, sparsities=[0.5]),
  'keep_pruned': lambda p: jprune.keep_pruned(masks()).init(p),
  'gradual': lambda p: jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=3).init(p),
  'check': lambda p: jprune.transforms.check(jprune.keep_pruned(masks()), p),
}


@pytest.mark.parametrize(('given', 'words'), AS_PARAMS, ids=IDS)
def test_a_module_for_params(given, words):
  for name, call in OF_PARAMS.items():
    said(call, TypeError, f'^{name}: `params` must be a tree of arrays; got {words}', given)


EQUINOX = equinox.nn.MLP(6, 4, 8, 1, key=jax.random.key(0))
AS_FUNCTION = [
  (MODEL, 'a linen module, Mlp. .*model.apply'),
  (NET, r'an NNX module, Net. .*jprune.nnx.functional\(model\)'),
  (EQUINOX, r'an Equinox module, MLP. .*jprune.equinox.functional.*equinox.partition\(model'),
  (TORCH(), 'a PyTorch module'),
  (HAIKU(), r'a Haiku transformed, .*haiku.without_apply_rng\(transformed\).apply'),
]
OF_FUNCTIONS = {
  'tally: `fn`': lambda f: jprune.tally(PARAMS, masks(), fn=f, args=(X,)),
  'shrink: `fn`': lambda f: jprune.shrink(f, PARAMS, masks(), X),
  'channels: `fn`': lambda f: jprune.graph.channels(f, PARAMS, X),
  'macs: `fn`': lambda f: jprune.graph.macs(f, PARAMS, X),
  'roles: `fn`': lambda f: jprune.graph.roles(f, PARAMS, X),
  'capture: `fn`': lambda f: jprune.graph.capture(f, PARAMS, X),
  'synflow: `fn`': lambda f: jprune.scores.synflow(PARAMS, f, X),
  'reconstruct.prune: `fn`': lambda f: jprune.reconstruct.prune(f, PARAMS, [X], sparsity=0.5),
}
OF_LOSSES = {
  'snip: `loss_fn`': lambda f: jprune.scores.snip(PARAMS, f, X),
  'curves: `evaluate`': lambda f: jprune.sensitivity.curves(f, PARAMS, sparsities=[0.5]),
}


@pytest.mark.parametrize(
  ('given', 'words'), AS_FUNCTION, ids=['linen', 'nnx', 'equinox', 'torch', 'haiku']
)
def test_a_module_for_a_function(given, words):
  for name, call in OF_FUNCTIONS.items():
    said(call, TypeError, f'^{name} must be a function of .*; got {words}', given)


@pytest.mark.parametrize(('given', 'words'), AS_FUNCTION[:3], ids=['linen', 'nnx', 'equinox'])
def test_a_module_for_a_loss(given, words):
  for name, call in OF_LOSSES.items():
    said(call, TypeError, f'^{name} must be a function of .*; got {words}', given)


def test_what_a_module_that_can_be_called_with_params_fails_of_is_said():
  class Loss(equinox.Module):
    def __call__(self, params, x):
      return LOSS(params, x)

  np.testing.assert_array_equal(
    jprune.scores.snip(PARAMS, Loss(), X)['Dense_0']['kernel'],
    jprune.scores.snip(PARAMS, LOSS, X)['Dense_0']['kernel'],
  )
  said(lambda: jprune.scores.snip(PARAMS, Loss()), ValueError, '^snip: `batches` must be at least')

  class Fails(equinox.Module):
    def __call__(self, params, x):
      raise KeyError('its own fault')

  said(lambda: jprune.scores.snip(PARAMS, Fails(), X), KeyError, 'its own fault')


@pytest.mark.parametrize('path', ['model.safetensors', pathlib.Path('model.safetensors')])
def test_a_path_for_params(path):
  words = r"^prune: `params` .*; got 'model.safetensors'. Open it: jprune.io.open\(path\)"
  said(lambda: jprune.prune(path, 0.5), TypeError, words)


def test_functions_come_first():
  words = r'^shrink: `fn` must be .*Functions come first: shrink\(fn, params'
  said(lambda: jprune.shrink(PARAMS, FN, masks(), X), TypeError, words)


def test_an_equinox_module_is_a_tree_unless_a_leaf_has_to_be_an_array():
  found = jprune.prune(EQUINOX, 0.5)
  assert jax.tree.structure(found) != jax.tree.structure(EQUINOX)
  for call in (jprune.graph.channels, jprune.graph.capture):
    said(
      call,
      TypeError,
      r"an Equinox module, MLP, with .* at leaf 'activation'. .*equinox.partition\(model",
      lambda model, x: jax.vmap(model)(x),
      EQUINOX,
      X,
    )


def test_variables_for_params_and_the_reverse():
  said(
    lambda: jprune.scores.snip(VARIABLES, LOSS, X),
    TypeError,
    r"^snip: `params` must be what `loss_fn` takes; got all variables.*Pass variables\['params'\]",
  )
  for call in (jprune.graph.channels, jprune.graph.macs):
    words = r"must be what `fn` takes; got all variables.*Pass variables\['params'\]"
    said(call, TypeError, words, FN, VARIABLES, X)
    words = r"got params without 'params'. Pass \{'params': params\}, or lambda"
    said(call, TypeError, words, MODEL.apply, PARAMS, X)
    call(MODEL.apply, VARIABLES, X)


# ---------------------------------------------------------------------- results of this library


@functools.cache
def result(name: str) -> Any:
  small = jprune.shrink(FN, PARAMS, units(0.5), X)
  return {
    'Shrunk': small,
    'Plan': small.plan,
    'Tally': jprune.tally(PARAMS),
    'ChannelGraph': graph(),
    'MacCount': jprune.graph.macs(FN, PARAMS, X),
    'Roles': jprune.graph.roles(FN, PARAMS, X),
    'Stats': jprune.graph.capture(FN, PARAMS, X)[1],
    'Recorder': jprune.report.Recorder(),
    'Repair': jprune.reconstruct.Repair('sparsegpt', ()),
    'Result': jprune.sensitivity.run(lambda p: 0.0, PARAMS, sparsity=0.5),
  }[name]


SMALL, MADE_OF = r'Pass small\.params\.$', r'Pass the params that it was made of\.$'
MASKS = r'Masks are what jprune\.prune returns\.$'
REPAIRED = r'It comes last: params, masks, report = jprune\.reconstruct\.prune\(\.\.\.\)\.$'
AS_RESULTS = {
  'Shrunk': (SMALL, MASKS),
  'Plan': (SMALL, MASKS),
  'Tally': (MADE_OF, r'Pass the masks that it was made of\.$'),
  'ChannelGraph': (
    MADE_OF,
    r'Make masks by it: jprune\.masks\.channels\(scores, graph, sparsity\)',
  ),
  'MacCount': (MADE_OF, MASKS),
  'Roles': (MADE_OF, MASKS),
  'Stats': (MADE_OF, MASKS),
  'Recorder': (MADE_OF, MASKS),
  'Repair': (
    r'It comes last: params, masks, report = .*\.$',
    r'It comes last: params, masks, report',
  ),
  'Result': (r'Pass result\.params\.$', r'Pass result\.masks\.$'),
}
OF_MASKS = {
  'apply': lambda m: jprune.apply(PARAMS, m),
  'tally': lambda m: jprune.tally(PARAMS, m),
  'save': lambda m: jprune.save('/nowhere/at/all', PARAMS, m),
  'prune': lambda m: jprune.prune(PARAMS, 0.6, masks=m),
  'shrink': lambda m: jprune.shrink(FN, PARAMS, m, X),
  'keep_pruned': lambda m: jprune.keep_pruned(m).init(PARAMS),
}


@pytest.mark.parametrize('name', AS_RESULTS)
def test_a_result_for_params_or_masks(name):
  as_params, as_masks = AS_RESULTS[name]
  for function, call in OF_PARAMS.items():
    words = f'^{function}: `params` must be a tree of arrays; got .*, an? {name}. {as_params}'
    said(call, TypeError, words, result(name))
  for function, call in OF_MASKS.items():
    words = f'^{function}: `masks` must be a tree of masks; got .*, an? {name}. {as_masks}'
    said(call, TypeError, words, result(name))


def test_masks_for_params_and_the_reverse(tmp_path):
  words = '`params` must be params; got bool leaves, and floating ones as `masks`. Swap the two.$'
  whole = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), PARAMS)
  for given in (masks(), whole):  # of leaves that are masked, and of all
    for call in (jprune.apply, jprune.tally, functools.partial(jprune.save, tmp_path / 'x')):
      said(call, TypeError, words, given, PARAMS)
  said(lambda: jprune.shrink(FN, whole, PARAMS, X), TypeError, words)
  assert not list(tmp_path.iterdir())
  tree = {'w': jnp.ones(3, bool)}  # a tree of bool leaves is one like others
  assert jprune.apply(tree, {'w': jnp.array([True, False, True])})['w'].tolist() == [1, 0, 1]


def test_a_result_that_is_saved():
  save = lambda tree: jprune.save('/tmp/never.safetensors', tree)
  words = (
    r'^save: `params` .*, a Shrunk. Call jprune.save_shrunk\(path, small\), or pass small.params'
  )
  said(save, TypeError, words, result('Shrunk'))
  said(save, TypeError, '^save: `params` .*, a Tally. Pass the params', result('Tally'))


@pytest.mark.parametrize(
  ('given', 'words'),
  [
    (FN, '(got the function <lambda>.$|Functions come first: )'),
    (b'params', 'got a bytes.$'),
    (Net, 'an NNX module, the class Net.'),
    (jprune.NOfM(2, 4), 'got a NOfM.$'),
    (object, '(got the class object.$|Functions come first: )'),
  ],
  ids=['function', 'bytes', 'class', 'pattern', 'type'],
)
def test_what_is_no_tree(given, words):
  for function, call in OF_PARAMS.items():
    said(call, TypeError, f'^{function}: .*`params` (must be )?a tree of arrays; .*{words}', given)


def test_params_and_masks_that_nobody_unpacked(tmp_path):
  path = tmp_path / 'a.safetensors'
  jprune.save(path, PARAMS, masks())
  words = (
    'params and masks together, as jprune.load returns them. Unpack them: params, masks = ...$'
  )
  for function in ('prune', 'tally', 'apply', 'channels', 'keep_pruned'):
    said(OF_PARAMS[function], TypeError, f'^{function}: .*{words}', jprune.load(path))
  triple = (PARAMS, masks(), result('Repair'))
  words = 'as jprune.reconstruct.prune returns them. Unpack them: params, masks, report = ...$'
  said(jprune.tally, TypeError, words, triple)
  said(lambda: jprune.save(path, triple), TypeError, words)
  jprune.save(path, (PARAMS, masks()))  # a tree that can be saved as well
  jprune.tally((PARAMS, PARAMS))


# ---------------------------------------------------------------------- trees beside trees

BESIDE = {
  'apply': lambda p, m: jprune.apply(p, m),
  'tally': lambda p, m: jprune.tally(p, m),
  'save': lambda p, m: jprune.save('/nowhere/at/all', p, m),
  'prune': lambda p, m: jprune.prune(p, 0.6, masks=m),
}


@pytest.mark.parametrize('name', BESIDE)
def test_a_state_beside_dicts(name):
  call, pure = BESIDE[name], nnx.to_pure_dict(STATE)
  of_state, of_dict = jprune.prune(STATE, 0.5), jprune.prune(pure, 0.5)
  words = 'the same leaf paths in other containers: '
  text = said(lambda: call(STATE, of_dict), ValueError, f'{words}dict for nnx.State. Convert it: ')
  assert 'jax.tree.structure(params).unflatten(jax.tree.leaves(masks, is_leaf=' in text
  text = said(lambda: call(pure, of_state), ValueError, f'{words}nnx.State for dict. Convert it: ')
  assert text.endswith('nnx.to_pure_dict(masks).')


def test_what_is_said_of_states_and_dicts_works():
  pure = nnx.to_pure_dict(STATE)
  of_state, of_dict = jprune.prune(STATE, 0.5), jprune.prune(pure, 0.5)
  jprune.apply(pure, nnx.to_pure_dict(of_state))
  leaves = jax.tree.leaves(of_dict, is_leaf=lambda leaf: leaf is None)
  found = jprune.apply(STATE, jax.tree.structure(STATE).unflatten(leaves))
  assert jax.tree.structure(found) == jax.tree.structure(STATE)
  for masks in (of_state, of_dict):  # by path, whatever the containers
    jprune.keep_pruned(masks).init(STATE)
    jprune.keep_pruned(masks).init(pure)


@pytest.mark.parametrize(
  'make',
  [
    lambda m: optax.chain(optax.sgd(0.1), jprune.keep_pruned(m)),
    lambda m: optax.chain(jprune.mask_updates(m), optax.sgd(0.1)),
    lambda m: jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=3, masks=m),
  ],
  ids=['keep_pruned', 'mask_updates', 'gradual'],
)
def test_masks_of_all_variables_in_an_optimizer_of_params(make):
  masks, words = jprune.prune(STATE, 0.5), r'nnx.filter_state\(masks, nnx.Param\)'
  said(lambda: nnx.Optimizer(NET, make(masks), wrt=nnx.Param), ValueError, words)
  nnx.Optimizer(NET, make(nnx.filter_state(masks, nnx.Param)), wrt=nnx.Param)
  words = r'not in an nnx.State: where pruned .* pass jprune.masks.from_zeros\(params\).$'
  loaded = nnx.to_pure_dict(masks)
  said(lambda: nnx.Optimizer(NET, make(loaded), wrt=nnx.Param), ValueError, words)


def trained() -> tuple[Any, Any]:
  """The params of a module with statistics, and an optimizer that keeps some of them at zero."""
  params = nnx.state(NET, nnx.Param)
  tx = optax.chain(optax.adam(0.1), jprune.keep_pruned(jprune.prune(params, 0.5)))
  return params, nnx.Optimizer(NET, tx, wrt=nnx.Param).opt_state


@pytest.mark.parametrize('name', BESIDE)
def test_masks_in_variables_of_an_optimizer(name):
  call, (params, state) = BESIDE[name], trained()
  fix = r'jprune.transforms.masks_of\(state, params\).$'
  words = f'OptVariable for Param. They are in variables of an optimizer: {fix}'
  said(lambda: call(params, jprune.transforms.masks_of(state)), ValueError, words)
  words = r'more variables: pass nnx.filter_state\(params, nnx.Param\).* Masks along it: ' + fix
  said(lambda: call(STATE, jprune.transforms.masks_of(state)), ValueError, words)
  if name != 'tally':  # which takes them out itself
    words = f'got the state of an optimizer. Take them out of it: {fix}'
    said(lambda: call(params, state), ValueError, words)
  jprune.apply(params, jprune.transforms.masks_of(state, params))  # what is said works


def test_a_tally_of_more_variables_than_the_optimizer_has():
  params, state = trained()
  fn, of_all = jprune.nnx.functional(NET)
  words = (
    r"got no leaf .*'norm/mean'.* The params are of more variables: pass nnx.filter_state\(params, "
    r'nnx.Param\), or, where pruned weights are 0.0, masks of all: .*from_zeros\(params\).$'
  )
  for given in (nnx.state(NET), of_all):
    said(jprune.tally, ValueError, f'^tally: `masks` .*{words}', given, state)
    said(jprune.report.metrics, ValueError, f'^metrics: `masks` .*{words}', given, state)
    said(jprune.transforms.masks_of, ValueError, f'^masks_of: `state` .*{words}', state, given)
  assert jprune.tally(params, state)['last/kernel'].sparsity == 0.5
  fn, few = jprune.nnx.functional(NET, wrt=nnx.Param)
  jprune.tally(few, state, fn=fn, args=(X,))


def test_masks_of_variables_beside_params_and_the_reverse():
  words = r"It is of all variables: pass masks\['params'\]."
  said(lambda: jprune.apply(PARAMS, {'params': masks()}), ValueError, words)
  words = r"The params are all variables: .* pass params\['params'\]."
  said(lambda: jprune.apply(VARIABLES, masks()), ValueError, words)


def test_a_whole_model_whose_optimizer_trained_the_params(tmp_path):
  tx = jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=1)
  optimizer = nnx.Optimizer(NET, tx, wrt=nnx.Param)
  whole, params = jprune.nnx.functional(NET)[1], nnx.state(NET, nnx.Param)
  held = jprune.transforms.masks_of(optimizer.opt_state, params)
  words = (
    r"got no leaf 'norm/mean'.*: pass nnx.filter_state\(params, nnx.Param\), or, where pruned "
    r'weights are 0.0, masks of all: jprune.masks.from_zeros\(params\)'
  )
  said(lambda: jprune.tally(whole, optimizer.opt_state), ValueError, '^tally: `masks` .*' + words)
  path = tmp_path / 'a.safetensors'
  lost = r'\. A file of the first has no statistics\.$'
  said(lambda: jprune.save(path, whole, held), ValueError, '^save: `masks` .*' + words + lost)
  part = nnx.filter_state(whole, nnx.Param)
  assert jprune.tally(part, optimizer.opt_state).size == jprune.tally(params).size
  jprune.save(path, whole, jprune.masks.from_zeros(whole))
  words = r"pass params\['params'\], or, .*from_zeros\(params\)"
  said(lambda: jprune.tally(VARIABLES, tx.init(PARAMS)), ValueError, words)
  words = r'pass those it trains, or, .*from_zeros\(params\)'
  more = {**PARAMS, 'frozen': jnp.ones(2)}
  said(lambda: jprune.tally(more, tx.init(PARAMS)), ValueError, words)


def test_saving_a_state_with_random_keys(tmp_path):
  state, path = nnx.state(NET), tmp_path / 'a.safetensors'
  words = (
    r'Leave random keys out: nnx.filter_state\(state, nnx.Not\(nnx.RngState\)\), or .*functional'
  )
  said(lambda: jprune.save(path, state), TypeError, words)
  said(lambda: jprune.save(path, NET), TypeError, r'an NNX module, Net.*jprune.nnx.functional')
  optimizer = nnx.Optimizer(NET, optax.sgd(0.1), wrt=nnx.Param)
  words = r'an NNX optimizer, Optimizer. .*jprune.nnx.functional\(model\)'
  said(lambda: jprune.save(path, optimizer), TypeError, words)
  jprune.save(path, nnx.filter_state(state, nnx.Not(nnx.RngState)))
  jprune.save(path, jprune.nnx.functional(NET)[1])


def test_batches_in_a_list():
  words = r'passed one by one; got one {} of 2. Unpack it: {}\(..., \*batches\).'
  for scorer in (jprune.scores.snip, jprune.scores.grasp, jprune.scores.fisher):
    for form in (list, tuple):
      match = words.format(form.__name__, scorer.__name__)
      said(scorer, TypeError, match, PARAMS, LOSS, form([X, X]))
  words_ = 'One of the args is a list.* capture_batches'
  said(lambda: jprune.graph.capture(FN, PARAMS, [X, X]), TypeError, words_)
  words = r'`batches` must be an iterable of batches; .* Write \[batch\]'
  said(lambda: jprune.reconstruct.prune(FN, PARAMS, X, sparsity=0.5), TypeError, words)


# ---------------------------------------------------------------------- masks that do nothing


def test_shrinking_where_nothing_shrinks():
  single = jprune.prune(PARAMS, 0.1)
  with pytest.warns(UserWarning, match='nothing gets smaller.*jprune.masks.channels') as caught:
    small = jprune.shrink(FN, PARAMS, single, X)
  assert caught[0].filename == __file__
  assert len(str(caught[0].message)) < 300
  assert jax.tree.map(jnp.shape, small.params) == jax.tree.map(jnp.shape, PARAMS)
  jprune.shrink(FN, PARAMS, single, X, strict=False)
  for quiet in (units(0.0), jax.tree.map(lambda leaf: None, PARAMS), units(0.5)):
    jprune.shrink(FN, PARAMS, quiet, X)


def test_params_where_scores_belong():
  words = r'must be scores, .*; got the params themselves.*jprune.scores.magnitude\(params\)'
  said(
    lambda: jprune.masks.channels(PARAMS, graph(), 0.5), ValueError, f'channels: `scores` {words}'
  )
  said(lambda: jprune.prune(PARAMS, 0.5, scorer=PARAMS), ValueError, f'prune: `scorer` {words}')
  copies = jax.tree.map(jnp.copy, PARAMS)  # scores that may have any sign
  jprune.masks.channels(copies, graph(), 0.5)
  jprune.prune(PARAMS, 0.5, scorer=copies)
  sizes = jax.tree.map(jnp.abs, PARAMS)  # as good as their magnitudes
  of_sizes = jprune.graph.channels(FN, sizes, X)
  found = jprune.masks.channels(sizes, of_sizes, 0.5)
  same = jprune.masks.channels(jprune.scores.magnitude(sizes), of_sizes, 0.5)
  jax.tree.map(np.testing.assert_array_equal, found, same)
  shapes = jprune.graph.channels(FN, jax.eval_shape(lambda: PARAMS), X)
  jprune.masks.channels(PARAMS, shapes, 0.5)  # nobody can know
  half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
  said(lambda: jprune.prune(half, 0.5, scorer=half), ValueError, f'prune: `scorer` {words}')
  keys = {'kernel': jnp.ones((4, 4)), 'key': jax.random.key(0)}
  jprune.prune(keys, 0.5, scorer=keys)


# ---------------------------------------------------------------------- optimizers


def dropping(inner: Any) -> optax.GradientTransformation:
  def update_fn(updates, state, params=None):
    return inner.update(updates, state)

  return optax.GradientTransformation(inner.init, update_fn)


def test_no_params_to_update():
  _no_params(jprune.transforms.gradual(optax.sgd(0.1), 0.5, every=3), 'gradual')
  _no_params(jprune.keep_pruned(masks()), 'keep_pruned')


def _no_params(tx: Any, name: str) -> None:
  state, words = tx.init(PARAMS), f'^{name}: `params` must be the params that the updates are for; '
  said(lambda: tx.update(PARAMS, state), ValueError, f'{words}got None. Call tx.update')
  wrapped = optax.chain(dropping(tx))
  state, words = wrapped.init(PARAMS), f'{words}.* tests.dropping was given them and passes none on'
  said(lambda: wrapped.update(PARAMS, state, PARAMS), ValueError, words)
  step = jax.jit(lambda updates, state, params: wrapped.update(updates, state, params))
  said(lambda: step(PARAMS, state, PARAMS), ValueError, words)
  said(lambda: wrapped.update(PARAMS, state), ValueError, 'Call tx.update')
  step = lambda updates, params: tx.update(updates, tx.init(params))
  said(lambda: step(PARAMS, PARAMS), ValueError, 'Call tx.update')


def test_masks_inside_of_what_flattens():
  words = 'optax.flatten hides their leaves: optax.chain'
  said(lambda: optax.flatten(jprune.keep_pruned(masks())).init(PARAMS), ValueError, words)


def test_names_are_those_that_are_there():
  for name in ('to_pure_dict', 'filter_state', 'state', 'Not', 'RngState', 'Param'):
    assert hasattr(nnx, name)
  for name in ('partition', 'is_inexact_array'):
    assert hasattr(equinox, name)
