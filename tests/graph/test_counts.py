"""Half of all channels of well-known networks, counted; from shapes alone.

The counts are those of Torch-Pruning 1.6.1 at a uniform 50 % with all classifier outputs kept.
"""

import math

import jax
import numpy as np
import pytest

import jprune
from tests import networks
from tests.shrink import _masks

HALVED = {
  'resnet18': (11_689_512, 3_055_880),
  'resnet50': (25_557_032, 6_917_640),
  'resnet56': (855_770, 215_282),
  'vit': (86_567_656, 22_050_664),
}


def trained(variables):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables['params']))


def kept(group, name):
  """ViT-B/16 keeps the 64 dims of each head; its hidden units, heads and MLP units are halved."""
  keep = np.ones(group.size, bool)
  if not (name == 'vit' and group.size == 64):
    keep[1::2] = False
  return keep


@pytest.mark.parametrize('name', HALVED)
def test_half_of_the_channels(name):
  fn, variables, args = getattr(networks, name)()
  graph = jprune.graph.channels(fn, variables, *args)
  masks = _masks.masks_of(graph, [kept(group, name) for group in graph.groups])
  small = jprune.shrink(fn, variables, masks, *args)
  assert (trained(variables), trained(small.params)) == HALVED[name]
  out, expected = (
    jax.eval_shape(f, p, *args) for f, p in ((small.fn, small.params), (fn, variables))
  )
  assert (out.shape, out.dtype) == (expected.shape, expected.dtype)


def test_uniform_sparsity_is_the_same_count():
  fn, variables, args = networks.resnet56()
  graph = jprune.graph.channels(fn, variables, *args)
  ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), variables)
  masks = jprune.masks.channels(jprune.scores.magnitude(ones), graph, 0.5)
  small = jprune.shrink(fn, variables, masks, *args)
  assert trained(small.params) == 215_282
