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
