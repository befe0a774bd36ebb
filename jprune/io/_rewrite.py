"""A checkpoint written anew, leaf by leaf, by those who change some of its leaves on the way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from jprune import _checks, tree
from jprune.io import _beside, _leaf, _structure, _writer
from jprune.io._open import Checkpoint, index_of


@contextlib.contextmanager
def rewriting(
  function: str,
  checkpoint: Checkpoint,
  path: str | os.PathLike[str],
  max_shard_size: int | str,
  argument: str,
) -> Iterator[_writer.Writer]:
  """Files of the same leaves, stored dense, in a folder; they appear at the end.

  What belongs to a model of several files goes with them: config.json, a tokenizer, and what its
  index says besides.

  Args:
    function: who writes, for messages.
    checkpoint: whose leaves they are.
    path: of the folder.
    max_shard_size: of a file.
    argument: what the path is called in messages.

  Raises:
    OSError: if they can't be written.
    TypeError: if the path is none.
    ValueError: if it is that of a file, the folder holds other weights, or the size is none.
  """
  target = _checks.as_path(function, path, folders=True)
  most = _writer.shard_bytes(function, max_shard_size)
  _writer.check_target(function, target, most, argument)
  paths, leaves, _ = tree.flatten(checkpoint.params)
  plans = [_leaf.plan_for(path, leaf, None, None) for path, leaf in zip(paths, leaves)]
  contents = {'masks': False, 'tree': _structure.describe(checkpoint.params)}
  groups = _writer.groups(plans, most)
  folder, index = index_of(checkpoint) or ('', None)
  mine = set(map(os.path.basename, checkpoint.shards))
  found = [] if index is None else _beside.beside(folder, mine).copied
  with (
    _beside.copying(function, folder, target, found, argument) as copy,
    _writer.several_files(
      function,
      target,
      groups,
      contents,
      metadata=checkpoint.metadata,
      argument=argument,
      index=index,
    ) as out,
  ):
    yield out
    copy()
