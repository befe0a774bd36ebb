"""Masks of random channels, and the masked and the shrunk function side by side."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jprune
from jprune import tree
from tests import xla

# Compiling takes most of the time; how fast the programs are is of no interest. One in some hundred
# programs that are compiled like this computes NaN, so a difference counts only if it is found
# again in a program that was compiled with care.
QUICK = {
  'xla_backend_optimization_level': 0,
  'xla_cpu_parallel_codegen_split_count': 1,
  **xla.OLDER_EMITTERS,
}


def compiled(options, fn, *args):
  """``fn(*args)``, compiled with these options."""
  return jax.jit(fn).lower(*args).compile(options)(*args)


def in_float64(values):
  """Floating leaves of 32 bits as float64."""
  return jax.tree.map(lambda x: x.astype(jnp.float64) if _is_single(x) else x, values)


def _is_single(leaf):
  return getattr(leaf, 'dtype', None) == jnp.float32


def random_kept(graph, rng, rate=0.5):
  """For each group a random half of its units; at least one."""
  kept = []
  for group in graph.groups:
    keep = rng.random(group.size) >= rate
    keep[rng.integers(group.size)] = True
    kept.append(keep)
  return kept


def half_kept(graph, rng):
  """For each group exactly half of its units (rounded up), chosen at random."""
  ranks = [rng.permutation(group.size) for group in graph.groups]
  return [rank < -(-len(rank) // 2) for rank in ranks]


def only(graph, index, keep):
  """One group pruned, the others whole."""
  kept = [np.ones(group.size, bool) for group in graph.groups]
  kept[index] = np.asarray(keep)
  return kept


def masks_of(graph, kept, single=0.0, rng=None):
  """Masks that prune the units that are not kept, from nothing but the members' positions.

  Args:
    graph: of the function.
    kept: for each group which units stay.
    single: share of all weights that is pruned besides, each by itself, in leaves of at least two
      axes of which no slice would go altogether.
    rng: needed if ``single``.
  """
  masks = dict.fromkeys(graph.leaves)
  for group, keep in zip(graph.groups, kept, strict=True):
    for path, axis, position in group.members:
      shape = graph.leaves[path].shape
      along = np.where(position.units < 0, True, keep[position.units])
      along = along.reshape([-1 if i == axis else 1 for i in range(len(shape))])
      masks[path] = np.broadcast_to(along, shape) & (True if masks[path] is None else masks[path])
  if single:
    for path, leaf in graph.leaves.items():
      if len(leaf.shape) >= 2:
        whole = np.ones(leaf.shape, bool) if masks[path] is None else masks[path]
        loose = whole & (rng.random(leaf.shape) >= single)
        if all((a == b).all() for a, b in zip(alive(whole), alive(loose))):
          masks[path] = loose
  return graph.treedef.unflatten(list(masks.values()))


def alive(mask):
  """For each axis of a mask, at which indices it keeps anything."""
  others = lambda axis: tuple(i for i in range(mask.ndim) if i != axis)
  return [mask.any(axis=others(axis)) for axis in range(mask.ndim)]


@dataclasses.dataclass(frozen=True)
class Pair:
  """A masked function and its params next to the shrunk ones.

  Attributes:
    fn: the full function.
    masked: its params, zero where pruned.
    small: what ``shrink`` made of it.
    states: for each result the path of the param whose new value it is, or ``None``.
  """

  fn: Any
  masked: Any
  small: Any
  states: tuple[str | None, ...]

  def sliced(self, outs):
    """Results of the full function, as the small one returns them."""
    leaves, treedef = jax.tree.flatten(outs)
    cut = [self.cut(leaf, path) for leaf, path in zip(leaves, self.states, strict=True)]
    return treedef.unflatten(cut)

  def cut(self, leaf, path):
    """The entries of a param that stay, by the plan's numbers alone."""
    for axis, kept in self.small.plan.kept.get(path, {}).items():
      leaf = leaf.take(np.array(kept), axis=axis)
    return leaf

  def cut_params(self, params):
    """The same of all params."""
    paths, leaves, treedef = tree.flatten(params)
    return treedef.unflatten([self.cut(leaf, path) for leaf, path in zip(leaves, paths)])


def pair(fn, params, masks, *args, graph=None, **options):
  """Shrinks, and keeps the masked function beside."""
  graph = graph or jprune.graph.channels(fn, params, *args)
  small = jprune.shrink(fn, params, masks, *args, **options)
  paths = list(graph.leaves)
  states = tuple(None if place is None else paths[place] for place in graph.states)
  return Pair(fn, masked_params(params, masks), small, states)


def masked_params(params, masks):
  """``jprune.apply``, on the host where the params lie there."""
  leaves, treedef = jax.tree.flatten(params)
  found = [
    leaf if mask is None or not tree.is_array(leaf) else _where(mask, leaf)
    for leaf, mask in zip(leaves, treedef.flatten_up_to(masks))
  ]
  return treedef.unflatten(found)


def _where(mask, leaf):
  if isinstance(leaf, np.ndarray):
    return np.where(mask, leaf, np.zeros((), leaf.dtype))
  return jprune.apply(leaf, mask)


def outputs(pair, *args, options=None):
  """``(expected, actual)``, both of the shapes of the small function's results."""
  run = lambda masked, small, args: (
    pair.sliced(pair.fn(masked, *args)),
    pair.small.fn(small, *args),
  )
  return compiled(options, run, pair.masked, pair.small.params, args)


def outputs_and_gradients(pair, *args, options=None):
  """The same, and with it the gradients of a scalar of both with respect to the params."""

  def run(masked, small, args):
    whole = lambda params: pair.sliced(pair.fn(params, *args))
    expected, gradient = scalar_gradient(whole, masked)
    actual, small_gradient = scalar_gradient(lambda params: pair.small.fn(params, *args), small)
    return (expected, pair.cut_params(gradient)), (actual, small_gradient)

  expected, actual = compiled(options, run, pair.masked, pair.small.params, args)
  return (expected[0], actual[0]), (expected[1], actual[1])


def scalar_gradient(fn, params):
  """The results, and the gradient of their sum with weights from -1 to 1."""
  leaves, treedef = jax.tree.flatten(params)
  places = [i for i, leaf in enumerate(leaves) if tree.is_floating(leaf)]

  def scalar(moving):
    values = list(leaves)
    for place, value in zip(places, moving):
      values[place] = value
    outs = fn(treedef.unflatten(values))
    return sum(map(_weighted, jax.tree.leaves(outs)), jnp.zeros(())), outs

  gradient, outs = jax.grad(scalar, has_aux=True)([leaves[i] for i in places])
  return outs, gradient_tree(treedef, leaves, places, gradient)


def gradient_tree(treedef, leaves, places, gradient):
  """Gradients in their places, zeros elsewhere."""
  out = [jnp.zeros(jnp.shape(leaf)) for leaf in leaves]
  for place, value in zip(places, gradient):
    out[place] = value
  return treedef.unflatten(out)


def _weighted(out):
  if not (tree.is_floating(out) or jnp.iscomplexobj(out)):
    return jnp.zeros(())
  weights = jnp.asarray(np.cos(1.7 * np.arange(out.size))).reshape(out.shape)
  return (weights * out.real.astype(weights.dtype)).sum()


def assert_same(expected, actual, tolerance=1e-9, what='', overall=False):
  """Leaf by leaf the same, up to a share of the leaf's largest value, or ``overall`` the tree's.

  Gradients are measured by all of the tree's: that of a key's bias, say, is nothing but rounding.
  """
  paths, wanted, treedef = tree.flatten(expected)
  assert treedef == jax.tree.structure(actual)
  wanted, found = [[_plain(x) for x in each] for each in (wanted, jax.tree.leaves(actual))]
  floor = max((largest(x) for x in wanted), default=0.0) if overall else 0.0
  for path, a, b in zip(paths, wanted, found):
    assert a.dtype == b.dtype, (what, path)
    assert a.shape == b.shape, (what, path)
    if not jnp.issubdtype(a.dtype, jnp.inexact):
      np.testing.assert_array_equal(a, b, f'{what} {path}')
    else:
      with np.errstate(invalid='ignore'):
        apart, scale = largest(a - b), max(largest(a), floor)
      assert apart <= tolerance * scale, (what, path, apart, scale)


def _plain(leaf):
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  return np.asarray(leaf)


def largest(x):
  """The largest absolute value; NaN is larger than all."""
  with np.errstate(invalid='ignore'):
    return float(np.abs(x.astype(np.complex128)).max(initial=0.0))


def check(fn, params, *args, seed=0, single=0.0, gradients=True, at=None):
  """Prunes random units of all groups and compares; returns the graph and the pair.

  Args:
    fn: any function.
    params: its params.
    *args: its further arguments.
    seed: of the units.
    single: share of single weights that are pruned besides.
    gradients: whether these are compared too.
    at: other arguments to compare at.
  """
  rng = np.random.default_rng(seed)
  graph = jprune.graph.channels(fn, params, *args)
  masks = masks_of(graph, random_kept(graph, rng), single, rng)
  made = pair(fn, params, masks, *args, graph=graph)
  compare(made, *(args if at is None else at), gradients=gradients)
  return graph, made


def compare(pair, *args, gradients=True):
  """Asserts that masked and shrunk give the same, in float64."""
  try:
    _compare(pair, args, gradients, QUICK)
  except AssertionError:
    _compare(pair, args, gradients, None)


def _compare(pair, args, gradients, options):
  if gradients:
    values, slopes = outputs_and_gradients(pair, *args, options=options)
    assert_same(*slopes, tolerance=1e-8, what='gradient', overall=True)
  else:
    values = outputs(pair, *args, options=options)
  assert_same(*values, what='output')
