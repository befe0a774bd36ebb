"""Checkpoints of formats that aren't read, and the lines that convert them.

Most of them hold pickles, which run code when they are read. They are told by the ends of their
names and refused before they are opened; a safetensors file may be called anything.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jprune.io import _errors


class _Format(NamedTuple):
  """A format: what it is called, the ends of its names, and what converts it.

  In the lines ``IN`` stands for the file, or for the files of a folder, ``OUT`` for the same name
  with another end, ``END`` for the end of a folder's files.
  """

  what: str
  ends: tuple[str, ...]
  lines: tuple[str, ...]


# `contiguous` and `clone`: safetensors refuses views and tensors that share their memory
_SAVED = '{k: v.contiguous().clone() for k, v in saved.items()}'
_FOLDER = _Format(
  'pickles of PyTorch',
  ('.bin', '.pt', '.pth'),
  (
    'import glob, torch, safetensors.torch as st',
    'for name in glob.glob(IN):',
    "  saved = torch.load(name, map_location='cpu', weights_only=True)",
    f"  st.save_file({_SAVED}, name.removesuffix(END) + '.safetensors', {{'format': 'pt'}})",
  ),
)
_FORMATS = (
  _Format(
    'a checkpoint of Lightning',
    ('.ckpt',),
    (
      'import torch, safetensors.torch as st',
      "saved = torch.load(IN, map_location='cpu', weights_only=True)['state_dict']",
      f"st.save_file({_SAVED}, OUT.safetensors, {{'format': 'pt'}})",
    ),
  ),
  _Format(
    'a pickle of PyTorch',
    ('.pt', '.pth', '.bin'),
    (
      'import torch, safetensors.torch as st',
      "saved = torch.load(IN, map_location='cpu', weights_only=True)",
      f"st.save_file({_SAVED}, OUT.safetensors, {{'format': 'pt'}})",
    ),
  ),
  _Format(
    'a model of Keras',
    ('.keras',),
    (
      'import keras, numpy as np',
      'weights = keras.saving.load_model(IN).weights',
      'np.savez(OUT.npz, **{w.path: np.asarray(w) for w in weights})',
    ),
  ),
  _Format(
    'a file of HDF5',
    ('.h5', '.hdf5'),
    (
      'import h5py, numpy as np; found = {}',
      'add = lambda name, x: found.update({name: x[()]} if isinstance(x, h5py.Dataset) else {})',
      "h5py.File(IN, 'r').visititems(add); np.savez(OUT.npz, **found)",
    ),
  ),
  _Format(
    'a file of GGUF',
    ('.gguf',),
    (
      'from gguf import GGUFReader, dequantize; from safetensors.numpy import save_file',
      'tensors = GGUFReader(IN).tensors',
      'save_file({t.name: dequantize(t.data, t.tensor_type) for t in tensors}, OUT.safetensors)',
    ),
  ),
  _Format(
    'a model of ONNX',
    ('.onnx',),
    (
      'import onnx, onnx.numpy_helper, safetensors.numpy',
      'found = {w.name: onnx.numpy_helper.to_array(w) for w in onnx.load(IN).graph.initializer}',
      'safetensors.numpy.save_file(found, OUT.safetensors)',
    ),
  ),
  _Format(
    'a pickle, which runs the code in it',
    ('.pkl', '.pickle'),
    (
      'import pickle, jprune  # only of whom you trust',
      "params = pickle.load(open(IN, 'rb'))",
      'jprune.save(OUT.safetensors, params)',
    ),
  ),
  _Format(
    'a lone array of NumPy',
    ('.npy',),
    ('import numpy as np', 'weights = np.load(IN)', 'np.savez(OUT.npz, weights=weights)'),
  ),
)
ENDS = tuple(end for each in _FORMATS for end in each.ends)


def check(function: str, path: str) -> None:
  """Refuses a file of another format; what isn't there is for others to say."""
  stem, end = os.path.splitext(path)
  found = next((each for each in _FORMATS if end.lower() in each.ends), None)
  if found is None or not os.path.isfile(path) or is_safetensors(path):
    return
  words = {'IN': path, 'OUT.safetensors': f'{stem}.safetensors', 'OUT.npz': f'{stem}.npz'}
  raise _errors.other_format(function, path, found.what, _filled(found.lines, words))


def check_folder(function: str, folder: str, names: Sequence[str]) -> None:
  """Refuses a folder that holds nothing but the pickles of a model."""
  for end in _FOLDER.ends:
    if fnmatch.filter(names, f'*model*{end}'):
      words = {'IN': os.path.join(folder, f'*model*{end}'), 'END': end}
      lines = _filled(_FOLDER.lines, words)
      raise _errors.other_format(function, folder, f'a folder of {_FOLDER.what}', lines)


def _filled(lines: Sequence[str], words: Mapping[str, str]) -> list[str]:
  pattern = '|'.join(map(re.escape, words))
  return [re.sub(rf'\b({pattern})\b', lambda found: repr(words[found[0]]), line) for line in lines]


def is_safetensors(path: str) -> bool:
  """Whether a file begins as those of safetensors do: a length, and an object of JSON."""
  try:
    with open(path, 'rb') as file:
      return file.read(9)[8:] == b'{'
  except OSError:
    return False
