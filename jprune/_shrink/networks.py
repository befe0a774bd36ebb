"""Whether a tree holds one network, or several whose layers have the same names.

The end of a path says to which param a leaf belongs, and the keys before it to which network: a
generator, a teacher. Or they say that it is a copy of the same one, an average, or a moment of an
optimizer; places in a tuple say nothing, as of values and tangents. Where they differ in anything
else, two leaves that fit one param may be of two networks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jprune import tree
from jprune._shrink import _errors
from jprune.masks import PackedMask

# Words of keys that say what a copy of one network's params is, not whose.
_COPIES = """
  params param parameters variables weights model module net network state states target online
  train training tree data raw full dense masked pruned sparse copy copies best last latest
  initial init old new prev previous saved backup ema emas avg average averaged averages swa
  polyak mean moving running shadow slow fast lookahead mask masks keep kept packed score scores
  grad grads gradient gradients update updates acc accumulated accumulator sum delta diff opt
  optim optimizer optimiser tx moment moments momentum velocity variance
  trace mu nu m v z master half fp bf bfloat float
"""
_OF_COPIES = frozenset(_COPIES.split())
_OPTIMIZERS = frozenset(['opt', 'optim', 'optimizer', 'optimiser', 'tx'])


def check_one_network(
  function: str, other: Any, places: Sequence[Any], kept: Mapping[str, Any]
) -> None:
  """Refuses a tree in which two leaves fit one param and seem to be of two networks.

  Args:
    function: who asks, for the message.
    other: the tree.
    places: for each of its leaves its param, and how many of its keys stand before the param's.
    kept: what stays, by param; those that lose nothing don't count.

  Raises:
    ValueError: that names both.
  """
  flat, _ = jax.tree_util.tree_flatten_with_path(other, is_leaf=_is_packed)
  seen: dict[Any, dict[Any, str]] = {}
  for (entries, leaf), place in zip(flat, places, strict=True):
    if place is None or not kept.get(place.path):
      continue
    path, mine = tree.path_string(entries), _network(other, entries, place.before)
    found = seen.setdefault((place.path, _kind(leaf)), {})
    for theirs, before in found.items():
      if not _may_be_one(mine, theirs):
        raise _errors.several_networks(function, before, path, place.path)
    found.setdefault(mine, path)


def _may_be_one(mine: tuple[bool, frozenset[str]], theirs: tuple[bool, frozenset[str]]) -> bool:
  (inside, words), (inside_too, others) = mine, theirs
  if words == others:
    return True
  # a state need not say whose it is, nor need what it belongs to; places in tuples say nothing
  named, named_too = ({word for word in of if not word.isdigit()} for of in (words, others))
  return (inside or inside_too) and (named == named_too or not (named and named_too))


def _network(other: Any, entries: Sequence[Any], before: int) -> tuple[bool, frozenset[str]]:
  """Whether the first keys lead into a state of an optimizer, and their words that name a network.

  Of such a state the keys count that stand before it, or after its last field: between these are
  the optimizer's parts.
  """
  inside, words, after = False, set[str](), set[str]()
  for name, node in _keys(other, entries, before):
    is_field, in_tuple = _is_state(node), isinstance(node, tuple)
    words_of = re.findall('[A-Z]?[a-z]+|[A-Z]+', name)
    found = {word.lower() for word in words_of}
    named = set() if is_field else found - _OF_COPIES
    named |= set(re.findall('[0-9]+', name)) if named else set()  # the first of several
    if inside:
      after |= named
    else:
      words |= named or ({name} if name.isdigit() and not in_tuple else set())
    if is_field or found & _OPTIMIZERS:
      inside, after = True, set()
  return inside, frozenset(words | after)


def _keys(other: Any, entries: Sequence[Any], before: int) -> Iterator[tuple[str, Any]]:
  """The first keys of a path, and what each leads on from."""
  node = other
  for entry in entries:
    for name in tree.path_string((entry,)).split('/'):
      if before == 0:
        return
      before -= 1
      yield name, node
    node = _child(node, entry)


def _is_state(node: Any) -> bool:
  """A named tuple of optax, or one that is called like those."""
  if not (isinstance(node, tuple) and hasattr(node, '_fields')):
    return False
  kind = type(node)
  named = kind.__name__.endswith('State') and 'train' not in kind.__name__.lower()
  return named or kind.__module__.partition('.')[0] == 'optax'


def _child(node: Any, entry: Any) -> Any:
  """What a key leads to, or ``None`` where a container has it in a way of its own."""
  try:
    if isinstance(entry, jax.tree_util.GetAttrKey):
      return getattr(node, entry.name)
    return node[entry.idx if isinstance(entry, jax.tree_util.SequenceKey) else entry.key]
  except (AttributeError, LookupError, TypeError):
    return None


def _is_packed(leaf: Any) -> bool:
  return isinstance(leaf, PackedMask)


def _kind(leaf: Any) -> str:
  """Masks, and numbers other than those of params, are no second network."""
  if _is_packed(leaf) or leaf.dtype == bool:
    return 'mask'
  return 'params' if jnp.issubdtype(leaf.dtype, jnp.inexact) else 'other'
