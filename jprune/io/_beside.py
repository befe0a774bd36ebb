"""What lies beside the files of a checkpoint and makes a model of it: config.json, a tokenizer."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from jprune.io import _atomic
from jprune.io._shards import INDEX

# The weights again, in other formats; copied they would be the dense model beside the pruned one.
_WEIGHTS = (
  *('.safetensors', '.index.json', '.bin', '.pt', '.pth', '.ckpt', '.h5', '.msgpack', '.npz'),
  *('.gguf', '.onnx', '.onnx_data', '.tflite', '.mlmodel', '.ot'),
)


class Beside(NamedTuple):
  """Names in a folder.

  Attributes:
    copied: files that go along.
    skipped: folders, hidden files, and weights that aren't read.
  """

  copied: list[str]
  skipped: list[str]


def beside(folder: str, files: Collection[str]) -> Beside:
  """What to do with all that a folder holds but the files that are read, by name, and an index."""
  copied, skipped = [], []
  for name in sorted(os.listdir(folder or os.curdir)):
    is_file = os.path.isfile(os.path.join(folder, name))
    if name in files or (is_file and name.endswith(INDEX)):
      continue
    goes = is_file and name[0] != '.' and not name.lower().endswith(_WEIGHTS)
    (copied if goes else skipped).append(name)
  return Beside(copied, skipped)


@contextlib.contextmanager
def copying(
  function: str, folder: str, target: str, names: Sequence[str], argument: str
) -> Iterator[Callable[[], None]]:
  """Yields what copies files, to be called when all else is there but its index.

  A file that replaces one gets its name on leaving, others at once; after an exception they are
  gone and the old ones as they were.

  Args:
    function: who copies, for messages.
    folder: in which they are.
    target: the folder that they go to.
    names: of the files.
    argument: what the target is called in messages.
  """
  made, is_new = list[str](), not os.path.isdir(target)
  put = functools.partial(_copied, function, argument)
  with contextlib.ExitStack() as later:

    def copy() -> None:
      for name in names:
        to = os.path.join(target, name)
        if os.path.lexists(to):
          put(os.path.join(folder, name), to, later)
          continue
        made.append(to)
        with contextlib.ExitStack() as now:
          put(os.path.join(folder, name), to, now)

    try:
      yield copy
    except BaseException:
      for path in made:
        with contextlib.suppress(OSError):
          os.unlink(path)
      if is_new:
        with contextlib.suppress(OSError):  # where there is none, or something else in it
          os.rmdir(target)
      raise


def _copied(function: str, argument: str, path: str, to: str, stack: contextlib.ExitStack) -> None:
  with open(path, 'rb') as read:
    mode = os.fstat(read.fileno()).st_mode & 0o666
    file, _ = stack.enter_context(_atomic.replacing(to, mode | 0o600, function, argument))
    shutil.copyfileobj(read, file)
