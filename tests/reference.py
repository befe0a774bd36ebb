"""Slow oracles in NumPy, written from the definitions; nothing of jprune is used here."""

import numpy as np


def order(scores):
  """Flat scores as (value, is NaN), so that -0 equals +0 and NaN comes below -inf."""
  flat = np.asarray(scores).astype(np.float64).reshape(-1)
  nan = np.isnan(flat)
  return np.where(nan, -np.inf, flat) + 0.0, nan


def top_k_together(leaves, k):
  """Masks of the k largest of all leaves: a stable sort, so the first of equal ones wins."""
  parts = [order(leaf) for leaf in leaves]
  values = np.concatenate([value for value, _ in parts])
  nan = np.concatenate([flag for _, flag in parts])
  ranked = np.lexsort((np.arange(values.size), nan, -values))
  mask = np.zeros(values.size, bool)
  mask[ranked[:k]] = True
  ends = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]
  return [part.reshape(np.shape(leaf)) for part, leaf in zip(np.split(mask, ends), leaves)]


def top_k(leaf, k):
  """Mask of the k largest of one leaf."""
  return top_k_together([leaf], k)[0]


def top_k_rows(leaf, k, axis):
  """Mask of the k largest of every row along an axis."""
  rows = np.moveaxis(np.asarray(leaf), axis, -1)
  out = np.empty(rows.shape, bool)
  for index in np.ndindex(rows.shape[:-1]):
    out[index] = top_k(rows[index], k)
  return np.moveaxis(out, -1, axis)


def capped(leaves, alive, ks, rows):
  """Masks with floors: the best of each row first, then the best of the rest, all of them alive.

  Args:
    leaves: scores of leaves.
    alive: for each which weights may be kept.
    ks: a number for each leaf, or one for all of them together; the floors may add to it.
    rows: for each leaf a list of pairs: flat indices, and how many of them to keep at least.
  """
  ranked = [(-value, leaf, i) for leaf, x in enumerate(leaves) for i, value in enumerate(x.flat)]
  ranked = sorted(each for each in ranked if alive[each[1]].flat[each[2]])
  masks = [np.zeros(x.shape, bool) for x in leaves]
  for leaf, of_leaf in enumerate(rows):
    for indices, floor in of_leaf:
      best = [i for _, at, i in ranked if at == leaf and i in set(indices)]
      masks[leaf].flat[best[:floor]] = True
  together = isinstance(ks, int)
  for _, leaf, i in ranked:
    kept = sum(mask.sum() for mask in masks) if together else masks[leaf].sum()
    if kept < (ks if together else ks[leaf]):
      masks[leaf].flat[i] = True
  return masks


def n_of_m(leaf, n, m, axis):
  """Mask of the n largest of every m along an axis; a short last group keeps at most n."""
  rows = np.moveaxis(np.asarray(leaf), axis, -1)
  out = np.zeros(rows.shape, bool)
  for index in np.ndindex(rows.shape[:-1]):
    for begin in range(0, rows.shape[-1], m):
      group = rows[index][begin : begin + m]
      out[index][begin : begin + m] = top_k(group, min(n, group.size))
  return np.moveaxis(out, -1, axis)


def block_means(leaf, rows, cols):
  """Mean of each tile of the last two axes; tiles at the edges are smaller."""
  leaf = np.asarray(leaf, np.float64)
  tall, wide = -(-leaf.shape[-2] // rows), -(-leaf.shape[-1] // cols)
  out = np.zeros((*leaf.shape[:-2], tall, wide))
  for i in range(tall):
    for j in range(wide):
      tile = leaf[..., i * rows : (i + 1) * rows, j * cols : (j + 1) * cols]
      out[..., i, j] = tile.mean(axis=(-2, -1))
  return out


def geometric_median(leaf, axis=-1):
  """FPGM, He et al. 2019, eq. 6: the sum of a filter's distances to all filters of its leaf."""
  leaf = np.asarray(leaf).astype(np.float64)
  filters = np.moveaxis(leaf, axis, 0) if leaf.ndim else leaf.reshape(1)
  out = np.zeros_like(filters)
  for i, one in enumerate(filters):
    out[i] = sum(np.sqrt(np.sum((one - other) ** 2)) for other in filters)
  return np.moveaxis(out, 0, axis) if leaf.ndim else out.reshape(())


def taylor(leaf, grad):
  """Molchanov et al. 2019, eq. 8, without the square: |weight * gradient|."""
  return np.abs(np.asarray(leaf).astype(np.float64) * np.asarray(grad).astype(np.float64))


def unit_scores(members, size, reduce):
  """One score for each unit of a channel group, weight by weight.

  ``members``: ``(scores, axis, units)``, where ``units`` names the unit of each index or is -1.
  """
  weights = [[] for _ in range(size)]
  for leaf, axis, units in members:
    slices = np.moveaxis(np.asarray(leaf).astype(np.float64), axis, 0)
    for index, unit in enumerate(units):
      if unit >= 0:
        weights[unit] += slices[index].reshape(-1).tolist()
  how = {
    'mean': np.mean,
    'sum': np.sum,
    'max': np.max,
    'l2': lambda x: np.sqrt(np.sum(np.square(x))),
  }[reduce]
  return [float(np.float32(how(each))) if each else 0.0 for each in weights]


def units_kept(groups, races, sparsity, round_to=1, min_keep=1):
  """Which units of each group stay; ``groups`` are lists of scores, ``races`` who competes.

  One unit after another goes: the worst of its race, of equal ones the last.
  """
  least = -(-min_keep // round_to) * round_to
  alive = [[True] * len(scores) for scores in groups]
  for race in sorted(set(races)):
    own = [g for g, r in enumerate(races) if r == race]
    for _ in range(round(sparsity * sum(len(groups[g]) for g in own))):
      free = [g for g in own if sum(alive[g]) > least]
      units = [(groups[g][u], -g, -u) for g in free for u in range(len(groups[g])) if alive[g][u]]
      if not units:
        break
      _, g, u = min(units)
      alive[-g][-u] = False
  for g, scores in enumerate(groups):
    kept, size = sum(alive[g]), len(scores)
    if kept == size:
      continue
    multiples = [k for k in range(round_to, size + 1, round_to) if k >= least]
    best = min(multiples, key=lambda k: (abs(k - kept), -k))
    order = sorted(range(size), key=lambda u: (-scores[u], u))
    alive[g] = [u in order[:best] for u in range(size)]
  return alive
