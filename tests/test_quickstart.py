"""The quickstart, shortened: exact zeros, an exact count, equal after saving and loading."""

import importlib.util
import pathlib
import types

import jax
import numpy as np
import pytest

import jprune

SCRIPT = pathlib.Path(__file__).parent.parent / 'examples/quickstart.py'
EPOCHS = 2


@pytest.fixture(scope='module')
def quickstart() -> types.ModuleType:
  spec = importlib.util.spec_from_file_location('quickstart', SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope='module')
def data(quickstart):
  return quickstart.load_data()


@pytest.fixture(scope='module')
def run(quickstart, data):
  steps = EPOCHS * (len(data.train_x) // quickstart.BATCH)
  with jax.numpy_dtype_promotion('standard'):  # optax.adam divides by its int32 count
    return quickstart.run(0, data, quickstart.optimizer(steps), EPOCHS)


def kernels(tree):
  """Arrays that are pruned, by path."""
  paths, leaves, _ = jprune.tree.flatten(tree)
  return {path: np.asarray(leaf) for path, leaf in zip(paths, leaves) if path.endswith('kernel')}


def test_the_data_are_all_digits(data):
  assert len(data.train_x) + len(data.test_x) == 1797
  assert len(data.test_x) == 540
  assert data.train_x.shape[1:] == (8, 8, 1)
  assert data.train_x.min() == 0
  assert data.train_x.max() == 1


def test_pruned_weights_are_exactly_zero(run):
  masks, weights = kernels(run.masks), kernels(run.sparse)
  assert len(masks) == 5
  for path, mask in masks.items():
    assert np.all(weights[path][~mask] == 0.0), path


def test_the_count_is_exact_over_all_layers(quickstart, run):
  masks = kernels(run.masks)
  size = sum(mask.size for mask in masks.values())
  pruned = sum(int((~mask).sum()) for mask in masks.values())
  assert pruned == round(quickstart.SPARSITY * size)


def test_it_learns_something(run):
  dense, _, tuned = run.accuracies
  assert dense > 0.5
  assert tuned > 0.5


def test_saved_and_loaded_are_equal(quickstart, run, data, tmp_path, capsys):
  quickstart.save_and_reload(run, tmp_path, data)
  loaded, masks = jprune.load(tmp_path / 'quickstart.safetensors')
  jax.tree.map(np.testing.assert_array_equal, loaded, run.sparse)
  jax.tree.map(np.testing.assert_array_equal, masks, run.masks)
  assert 'times smaller' in capsys.readouterr().out


def test_the_check_finds_a_weight_that_is_not_zero(quickstart, run):
  wrong = jax.tree.map(lambda leaf: leaf + jax.numpy.finfo(leaf.dtype).tiny, run.sparse)
  with pytest.raises(RuntimeError, match=r'not 0\.0'):
    quickstart.check_zeros(wrong, run.masks)


def test_plot_and_table(quickstart, run, tmp_path):
  quickstart.plot([run, run], tmp_path / 'quickstart.png')
  assert (tmp_path / 'quickstart.png').read_bytes().startswith(b'\x89PNG')
  lines = quickstart.table(range(2), [run, run]).splitlines()
  assert [line.split()[0] for line in lines] == ['seed', '0', '1', 'mean']
  assert lines[-1].split()[1] == f'{run.accuracies[0]:.2%}'


def test_missed_goals_are_said(quickstart, run):
  assert quickstart.missed_goals([run._replace(accuracies=(0.99, 0.5, 0.985))]) == []
  worse = quickstart.missed_goals([run._replace(accuracies=(0.96, 0.5, 0.94))])
  assert len(worse) == 2
  assert '96.00%' in worse[0]
  assert '2.00 points' in worse[1]
