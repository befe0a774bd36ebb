"""How masked and small are compared: values, derivatives, in lanes."""

import jax
import jax.numpy as jnp
import numpy as np

from jprune import tree

MODES = {  # how a pair is compared, and how often
  'values': 0.5,
  'gradient': 0.2,
  'of the inputs': 0.06,
  'forward': 0.05,
  'second': 0.06,
  'third': 0.03,
  'lanes of params': 0.05,
  'lanes of inputs': 0.05,
}
MODES_OF_RULES = {'values': 0.1, 'gradient': 0.3, 'forward': 0.2, 'second': 0.2, 'third': 0.2}


def _floats(leaves):
  return [i for i, leaf in enumerate(leaves) if tree.is_floating(leaf) or jnp.iscomplexobj(leaf)]


def _moving(fn, tree_):
  """``fn`` of the floating leaves of a tree alone, and these."""
  leaves, treedef = jax.tree.flatten(tree_)
  places = _floats(leaves)

  def moved(values):
    full = list(leaves)
    for place, each in zip(places, values):
      full[place] = each
    return fn(treedef.unflatten(full))

  return moved, [leaves[i] for i in places], places, treedef


def _weighted(outs, weights):
  """A linear functional of all floating results, whose numbers differ from entry to entry."""
  total = jnp.zeros(())
  for out, weight in zip(jax.tree.leaves(outs), weights, strict=True):
    if _floats([out]):
      parts = (out.real, out.imag) if jnp.iscomplexobj(out) else (out,)
      for k, part in enumerate(parts):
        total += (jnp.roll(weight, k) * part.astype(jnp.float64)).sum()
  return total


def transformed(fn, weights, mode):
  """``(values, derivatives)`` of params and inputs; derivatives are those of a scalar.

  Derivatives stand in a list with a place for each leaf of the params (or of the inputs).
  """

  def run(params, args, directions):
    scalar = lambda params, args: _weighted(fn(params, *args), weights)
    if mode == 'values':
      return fn(params, *args), []
    if mode.startswith('lanes'):
      twice = lambda x: jnp.stack([jnp.asarray(x)] * 2)
      if mode == 'lanes of params':
        return jax.vmap(fn, (0, *(None for _ in args)))(jax.tree.map(twice, params), *args), []
      if not args:
        return fn(params), []
      return jax.vmap(fn, (None, *(0 for _ in args)))(params, *map(twice, args)), []
    if mode == 'of the inputs':
      moved, values, _, _ = _moving(lambda args: scalar(params, args), args)
      return fn(params, *args), {'inputs': jax.grad(moved)(values)}
    moved, values, places, _ = _moving(lambda params: scalar(params, args), params)
    along = [directions[i] for i in places]
    slope = lambda moved: lambda values: _dot(jax.grad(moved)(values), along)
    if mode == 'forward':
      return fn(params, *args), {'slope': jax.jvp(moved, (values,), (along,))[1]}
    for _ in range({'gradient': 0, 'second': 1, 'third': 2}[mode]):
      moved = slope(moved)
    grads = jax.grad(moved)(values)
    leaves = [None] * len(jax.tree.leaves(params))
    for place, grad in zip(places, grads):
      leaves[place] = grad
    return fn(params, *args), leaves

  return run


def _dot(a, b):
  return sum(((x * y).real.astype(jnp.float64).sum() for x, y in zip(a, b)), jnp.zeros(()))


def _where_kept(pair, values, path):
  """Values of a result, zero at the places that it loses where it is the state of a leaf."""
  places = np.arange(values.size).reshape(values.shape)
  return np.where(np.isin(places, pair.cut(places, path)), values, 0.0)


def runs(pair, outs, mode):
  """Two functions, of masked params and inputs and of small params and inputs."""
  full = [
    np.cos(1.7 * np.arange(x.size) + i).reshape(x.shape)
    for i, x in enumerate(jax.tree.leaves(outs))
  ]
  # what is cut off a result is in none of the two sums that are differentiated
  full = [_where_kept(pair, w, path) for w, path in zip(full, pair.states, strict=True)]
  small = [pair.cut(w, path) for w, path in zip(full, pair.states, strict=True)]
  ways = [
    np.asarray(np.cos(np.arange(np.size(x)) + i).reshape(np.shape(x)), x.dtype)
    * (np.asarray(x) != 0)
    for i, x in enumerate(jax.tree.leaves(pair.masked))
  ]
  paths = list(pair.small.plan.shapes)
  cut = [pair.cut(way, path) for way, path in zip(ways, paths)]
  lanes = mode.startswith('lanes')

  def masked(masked, args):
    # Under jit, as the small function is: of rules that close over values that are traced there,
    # jax knows no derivative.
    values, slopes = transformed(jax.jit(pair.fn), full, mode)(masked, args, ways)
    if isinstance(slopes, list):
      slopes = [g if g is None else pair.cut(g, path) for g, path in zip(slopes, paths)]
    if lanes:
      return jax.vmap(pair.sliced)(values) if jax.tree.leaves(values) else values, slopes
    return pair.sliced(values), slopes

  def shrunk(params, args):
    return transformed(pair.small.fn, small, mode)(params, args, cut)

  return masked, shrunk
