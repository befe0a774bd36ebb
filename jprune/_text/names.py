"""Names in few columns: cut so that different ones stay different, and split at their keys."""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence

_KEY = re.compile(r'[^/.]*[/.]+|[^/.]+')
_DEEPEST = 32  # keys in a heading, however many a path has
# How much of the columns the ends of a name take, the rest being for where it differs from others.
_ENDS = ((0.5, 0.5), (0.25, 0.35), (0.1, 0.5), (0.1, 0.1))


def keys(path: str) -> list[str]:
  """A path in pieces, each with what separates it from the next: a slash, or a dot.

  Examples:
    >>> keys('params/model.layers.0.weight')
    ['params/', 'model.', 'layers.', '0.', 'weight']
  """
  return _KEY.findall(path)


def shorten(name: str, width: int) -> str:
  """A name cut in the middle, so that both its ends stay to be read.

  Examples:
    >>> shorten('encoder/block_11/mlp/kernel', 16)
    'encoder…p/kernel'
  """
  if len(name) <= width:
    return name
  head = max(width - 1, 0) // 2
  tail = max(width - 1, 0) - head
  return f'{name[:head]}…{name[len(name) - tail :]}'


def shortened(names: Iterable[str], width: int) -> dict[str, str]:
  """What to show for each of some names: different texts for different names.

  Those of which both ends are the same show where they differ; if that isn't enough, they are
  numbered.

  Examples:
    >>> names = [f'encoder/block_{i}/mlp/kernel' for i in range(2)]
    >>> list(shortened(names, 20).values())
    ['encod…k_0/ml…/kernel', 'encod…k_1/ml…/kernel']
  """
  names = list(dict.fromkeys(names))
  out = {name: name for name in names if len(name) <= width}
  taken = set(out)
  left = [name for name in names if name not in out]
  for head, tail in _ENDS:
    alike = collections.defaultdict(list)
    for name in left:
      alike[shorten(name, width)].append(name)
    cut = {
      name: _around(name, place, width, int(head * width), int(tail * width))
      for group in alike.values()
      for place in [_shared(group)]
      for name in group
    }
    times = collections.Counter(cut.values())
    fine = {name: text for name, text in cut.items() if times[text] == 1 and text not in taken}
    out |= fine
    taken |= set(fine.values())
    left = [name for name in left if name not in fine]
  numbers: dict[tuple[str, int], Iterator[int]] = {}
  for name in left:
    out[name] = _numbered(name, width, taken, numbers)
    taken.add(out[name])
  return {name: out[name] for name in names}


def _around(name: str, place: int, width: int, head: int, tail: int) -> str:
  """A name with both its ends, and what stands around a place."""
  window = width - head - tail - 2
  start = max(place - window // 3, head)
  if window <= 0 or start + window + tail >= len(name):
    return shorten(name, width)
  return f'{name[:head]}…{name[start : start + window]}…{name[len(name) - tail :]}'


def _shared(names: Sequence[str]) -> int:
  """How many characters all names start with."""
  pairs = enumerate(zip(*names, strict=False))
  return next((i for i, found in pairs if len(set(found)) > 1), min(map(len, names)))


def _numbered(
  name: str, width: int, taken: Collection[str], numbers: dict[tuple[str, int], Iterator[int]]
) -> str:
  """A name and the first number that is left; ``numbers``: those that nobody has tried yet."""
  text, digits = '', 0
  while not text:
    digits += 1
    start = shorten(name, width - 1 - digits)
    new = iter(range(max(2, 10 ** (digits - 1)), 10**digits))
    texts = (f'{start}~{number}' for number in numbers.setdefault((start, digits), new))
    text = next((text for text in texts if text not in taken), '')
  return text


def headed(paths: Sequence[str], width: int) -> tuple[list[str], list[str]]:
  """Headings and labels: paths that don't fit share a line that names their first keys.

  As few keys go to the heading as make the most labels fit; a run of rows that fit in full needs
  no heading.

  Examples:
    >>> headed(['model.layers.0.mlp.weight', 'model.layers.0.norm.weight', 'head'], 20)
    (['model.layers.', 'model.layers.', ''], ['  0.mlp.weight', '  0.norm.weight', 'head'])
  """
  split = [keys(path) if ' ' not in path else [path] for path in paths]
  if all(len(path) <= width for path in paths):
    return [''] * len(paths), list(paths)
  best: tuple[list[str], list[str]] = ([], [])
  fewest = len(paths) + 1
  for depth in range(min(max(map(len, split), default=1), _DEEPEST)):
    found = _headed(paths, split, depth, width)
    overlong = sum(len(label) > width for label in found[1])
    if overlong < fewest:
      best, fewest = found, overlong
    if not overlong:
      break
  return best


def _headed(
  paths: Sequence[str], split: Sequence[list[str]], depth: int, width: int
) -> tuple[list[str], list[str]]:
  heads = [''.join(each[: min(depth, len(each) - 1)]) for each in split]
  headings, labels = [], []
  for head, run in itertools.groupby(zip(heads, paths), key=lambda pair: pair[0]):
    whole = [path for _, path in run]
    fits = not head or all(len(path) <= width for path in whole)
    headings += ['' if fits else head] * len(whole)
    labels += whole if fits else [f'  {path[len(head) :]}' for path in whole]
  return headings, labels
