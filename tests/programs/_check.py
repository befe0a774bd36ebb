"""A program masked and shrunk, side by side: values, derivatives, in lanes."""

from typing import Any, NamedTuple

import jax
import numpy as np

import jprune
from tests.programs._distance import distances, finite, flipped, host, moved, precision
from tests.programs._modes import runs
from tests.programs._program import function, value
from tests.shrink import _masks

CHOICES = ('half', 'half', 'half', 'one unit', 'all but one', 'one group')


class Outcome(NamedTuple):
  """What came of a program: ``agrees``, ``nothing free``, ``not finite``, ``ill-conditioned``, or a
  failure: ``differs`` or ``raises``, with the details, and what was pruned."""

  kind: str
  detail: str = ''
  kept: Any = None
  units: int = 0

  @property
  def failed(self):
    return self.kind.startswith(('differs', 'raises'))


# ---------------------------------------------------------------------------------------- masks


def choose(graph, choice, rng):
  """For each group which of its units stay."""
  if choice == 'half':
    return _masks.random_kept(graph, rng)
  sizes = [group.size for group in graph.groups]
  if choice == 'all but one':
    return [np.arange(size) == rng.integers(size) for size in sizes]
  i = rng.choice([i for i, size in enumerate(sizes) if size > 1] or [0])
  keep = np.arange(sizes[i]) != rng.integers(sizes[i])
  if choice == 'one group':
    keep = _masks.random_kept(graph, rng)[i]
  return _masks.only(graph, i, keep)


def plain(kept):
  """As text that makes them again."""
  return [[bool(each) for each in keep] for keep in kept]


def _must_run(fn, *args):
  try:
    jax.jit(fn).lower(*args)
  except Exception as error:
    raise Invalid(str(error)) from error


def _run(options, fn, *args):
  try:
    return _masks.compiled(options, fn, *args)
  except TypeError as error:
    # Of jax's cache: a program that was lowered before, of other constants.
    if 'Computation compiled for' not in str(error):
      raise
    return jax.jit(fn)(*args)


def compare(pair, args, mode, jaxpr, outs):
  """``(kind, detail)`` of masked against small results."""
  masked, shrunk = runs(pair, outs, mode)
  both = lambda m, s, args: (masked(m, args), shrunk(s, args))
  eps = precision(jaxpr)
  tolerance = 1e-9 if eps < 1e-10 else 2e3 * eps
  tolerance *= {'values': 1, 'second': 1e2, 'third': 1e3}.get(mode, 10)
  tolerance = min(tolerance, 0.3)
  for options in (_masks.QUICK, None):
    try:
      found = _run(options, both, pair.masked, pair.small.params, args)
    except Exception:
      _must_run(masked, pair.masked, args)
      raise
    a, b = map(host, found)
    if not finite(a):
      return 'not finite', ''
    apart = distances(a, b)
    if max(apart, default=0.0) <= tolerance:
      return 'agrees', ''
  run = jax.jit(masked)
  near = moved(run, pair.masked, args, 4 * max(eps, 2.3e-13), True)
  wide = moved(run, pair.masked, args, 4 * max(eps, 2.3e-13), False) if mode != 'values' else near
  small = flipped(jax.jit(shrunk), pair.small.params, args)
  most = [max(each) for each in zip(near, wide, small, flipped(run, pair.masked, args))]
  bad = [i for i, each in enumerate(apart) if each > tolerance]
  if all(most[i] > 0.01 * min(apart[i], 1e6) for i in bad):
    return 'ill-conditioned', ''
  worst = max(apart[i] for i in bad)
  return 'differs', f'{mode}: by {worst:.2g} of the largest value'


class Invalid(Exception):
  """JAX refuses the program, or its derivative."""


def check(program, mode, choice, seed=0, kept=None):
  """What came of a program."""
  try:
    fn = _valid(program)
    params = {name: value(name, leaf) for name, leaf in program.params.items()}
    if not params:
      raise Invalid
    args = [value(name, leaf) for name, leaf in program.inputs.items()]
    return check_fn(fn, params, args, mode, choice, seed, kept)
  except Invalid as error:
    if mode != 'values':  # of some functions jax knows no such derivative
      return check(program, 'values', choice, seed, kept)
    return Outcome('no program', str(error)[:200])
  except Exception as error:  # of the library, or of the machine: somebody has to look
    # JAX looks closer at what has been traced; and rules of rules may be refused, in these words.
    if 'CustomVJPException' in type(error).__name__ or 'alike at every order' in str(error):
      return check(program, 'values', choice, seed, kept)
    return Outcome(f'raises {type(error).__name__}', str(error)[:300])


def _valid(program):
  try:
    return function(program)
  except Exception as error:
    raise Invalid from error


def _traced(fn, params, args):
  try:
    return jax.make_jaxpr(fn, return_shape=True)(params, *args)
  except Exception as error:
    raise Invalid(str(error)) from error


def check_fn(fn, params, args, mode, choice, seed=0, kept=None):
  jaxpr, outs = _traced(fn, params, args)
  graph = jprune.graph.channels(fn, params, *args)
  units = sum(group.size for group in graph.groups if group.size > 1)
  if not units:
    return Outcome('nothing free')
  rng = np.random.default_rng(seed)
  given = kept is not None and [len(k) for k in kept] == [g.size for g in graph.groups]
  kept = [np.array(k) for k in kept] if given else choose(graph, choice, rng)
  masks = _masks.masks_of(graph, kept, 0.1 if choice == 'half' and seed % 2 else 0.0, rng)
  strict = not all(keep.all() for keep in kept)  # else shrink says that nothing gets smaller
  pair = _masks.pair(fn, params, masks, *args, graph=graph, strict=strict)
  kind, detail = compare(pair, args, mode, jaxpr.jaxpr, outs)
  return Outcome(kind, detail, plain(kept), units)


def assert_same(fn, params, args, kept, mode='values'):
  """What a printed failure calls."""
  found = check_fn(fn, params, args, mode, 'half', kept=kept)
  assert found.kind == 'agrees', found
