"""Leaves past 2^31 weights and counts past 2^53, from shapes alone: a decoder of 405 billion."""

import jax
import numpy as np

import jprune
from tests import networks

LAYERS, HIDDEN, HEADS, OF_KEYS, OF_HEAD, MLP, VOCAB = 126, 16384, 128, 8, 128, 53248, 128256
BATCH, LENGTH = 4, 8192
KERNELS = HIDDEN * (2 * HEADS * OF_HEAD + 2 * OF_KEYS * OF_HEAD + 3 * MLP)  # of one layer
WEIGHTS = LAYERS * (KERNELS + 2 * HIDDEN) + HIDDEN + 2 * VOCAB * HIDDEN


def test_counts_of_a_decoder_of_405_billion_weights():
  sizes = {'layers': LAYERS, 'hidden': HIDDEN, 'heads': HEADS, 'mlp': MLP}
  fn, variables, args = networks.llama(**sizes, batch=BATCH, length=LENGTH, scan=True)
  assert max(leaf.size for leaf in jax.tree.leaves(variables)) > 2**36
  graph = jprune.graph.channels(fn, variables, *args)
  assert graph.params_at() == WEIGHTS
  (units,) = (index for index, group in enumerate(graph.groups) if group.size == MLP)
  kept = [np.ones(group.size, bool) for group in graph.groups]
  kept[units][:2] = False  # two units: a column of two kernels and a row of one, in each layer
  assert graph.params_at(kept) == WEIGHTS - 2 * LAYERS * 3 * HIDDEN
  tally = jprune.tally(variables, fn=fn, args=args)
  assert tally.size == tally.nonzero == WEIGHTS
  assert tally.bytes_dense == 2 * WEIGHTS
  products = BATCH * LENGTH * (LAYERS * KERNELS + VOCAB * HIDDEN)
  attention = 2 * LAYERS * BATCH * HEADS * LENGTH**2 * OF_HEAD
  assert tally.macs.dense == products + attention > 2**53
  sparsities = jax.tree.leaves(jprune.distributions.erk(variables, variables, 0.5))
  zeros = sum(s * x.size for s, x in zip(sparsities, jax.tree.leaves(variables), strict=True))
  np.testing.assert_allclose(zeros, WEIGHTS / 2, rtol=1e-12)
