"""Random networks, composed of many parts: what is reported of them; tests/programs has values."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jprune
from tests.shrink import _masks, _parts

layers = st.lists(
  st.tuples(st.sampled_from(sorted(_parts.PARTS)), st.integers(1, 4)), min_size=1, max_size=4
)
seeds = st.integers(0, 2**16)
few = settings(max_examples=25, deadline=None, derandomize=True)


@pytest.fixture(autouse=True, scope='module')
def _in_float64():
  with jax.enable_x64(True):
    yield


@few
@given(layers, seeds)
def test_reports_of_any_network(layers, seed):
  fn, params, x = _parts.architecture(layers, seed)
  graph = jprune.graph.channels(fn, params, x)
  assert json.loads(json.dumps(graph.to_dict()))
  assert all(len(line) <= 100 for line in str(graph).splitlines())
  kept = _masks.random_kept(graph, np.random.default_rng(seed))
  small = jprune.shrink(fn, params, _masks.masks_of(graph, kept), x)
  assert str(small.plan)
  assert 'weights' in repr(small)
  assert small.plan.size == (graph.params_at(), graph.params_at(kept))
  assert graph.macs_at(kept) <= graph.macs_at()
  # the shrunk network is a network like any other: its own channels can be found and pruned
  again = jprune.graph.channels(small.fn, small.params, x)
  assert again.params_at() == graph.params_at(kept)
  assert again.macs_at() >= graph.macs_at(
    kept
  )  # what stands for pruned entries is computed besides


@pytest.mark.parametrize('name', _parts.PARTS)
def test_every_part_by_itself(name):
  graph, _ = _masks.check(*_parts.architecture([(name, 3)]), gradients=False)
  assert not graph.unsupported
  members = {(member.path, member.axis) for group in graph.groups for member in group.members}
  assert ('stem_w', 1) in members
  assert not {('stem_w', 0), ('head_w', 1)} & members
