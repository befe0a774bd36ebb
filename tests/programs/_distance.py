"""How far apart two results are, and how far they may be."""

import jax
import jax.numpy as jnp
import numpy as np


def host(tree_):
  return [np.asarray(jax.random.key_data(x) if _is_key(x) else x) for x in jax.tree.leaves(tree_)]


def _is_key(x):
  return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _wide(x):
  return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def distances(a, b):
  """Largest differences of each pair of arrays, each divided by the largest value of the first."""
  out = []
  for x, y in zip(a, b, strict=True):
    if x.shape != y.shape or x.dtype != y.dtype:
      return [np.inf]
    x, y = _wide(x), _wide(y)
    with np.errstate(all='ignore'):
      apart = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
      size = np.abs(x[np.isfinite(x)]).max(initial=0.0)
      out.append(float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0)) / (size or 1.0))
  return out


def finite(values):
  return all(np.isfinite(_wide(x)).all() for x in values)


_EPS = {'float32': 1.2e-7, 'complex64': 1.2e-7, 'float16': 1e-3, 'bfloat16': 8e-3}


def precision(jaxpr):
  """The coarsest floating dtype that anything is computed in: its epsilon."""
  worst = 2.3e-16
  for eqn in jaxpr.eqns:
    for var in (*eqn.invars, *eqn.outvars):
      worst = max(worst, _EPS.get(str(getattr(var.aval, 'dtype', '')), 0.0))
    for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, 'eqns')):
      worst = max(worst, precision(inner)) if hasattr(inner, 'eqns') else worst
  return worst


def moved(run, params, args, eps, kept_only):
  """How far the masked results go when params (and inputs) go by some epsilon."""
  base = host(run(params, args))
  worst = [0.0] * len(base)
  for k in range(6):
    rng = np.random.default_rng(k)
    nudge = lambda x, rng=rng: _nudged(rng, eps, x)
    there = host(run(jax.tree.map(nudge, params), args if kept_only else jax.tree.map(nudge, args)))
    worst = [max(x) for x in zip(worst, distances(base, there))]
  return worst


def flipped(run, params, args):
  """How far results go when zeros among params and inputs have the other sign.

  Of a sum that is zero the sign depends on how many zeros were added, and in which order.
  """
  there = run(*jax.tree.map(_other_zeros, (params, args)))
  return distances(host(run(params, args)), host(there))


def _other_zeros(x):
  x = np.asarray(x)
  return np.where(x == 0, -x, x) if x.dtype.kind == 'f' else x


def _nudged(rng, eps, x):
  x = np.asarray(x)
  if x.dtype.kind not in 'fc' and x.dtype != jnp.bfloat16:
    return x
  noise = 1 + eps * rng.choice([-1.0, -0.5, 0.5, 1.0], x.shape)
  return (x * noise).astype(x.dtype)
