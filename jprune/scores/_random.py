"""Random importance: the baseline that every other scorer has to beat."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jprune import _checks, tree
from jprune._entry import public
from jprune.typing import Params, Scores


@public
def random(params: Params, *, key: jax.Array) -> Scores:
  """Independent uniform scores: every subset of weights is equally likely to be kept.

  The key of a leaf is folded from ``key`` and the leaf's path. So a leaf's scores depend on the
  key, its path and its shape alone, not on its sharding or on which other leaves there are.

  Args:
    params: tree of arrays; shape structs will do.
    key: one typed random key.

  Returns:
    Scores in [0, 1), float32, structure and shapes of ``params``; ``None`` for leaves that are
    neither floating nor complex arrays.

  Raises:
    ValueError: if there is no leaf.
    TypeError: if ``key`` isn't one typed random key.

  Examples:
    >>> params = {'w': jnp.zeros((2, 3)), 'b': jnp.zeros(3)}
    >>> scores = random(params, key=jax.random.key(0))
    >>> alone = random({'w': params['w']}, key=jax.random.key(0))
    >>> scores['w'].shape, bool(jnp.all(scores['w'] == alone['w']))
    ((2, 3), True)
  """
  _checks.check_key('random', key)
  paths, leaves, treedef = tree.flatten(params)
  if not leaves:
    raise _checks.empty_tree('random')
  words = jnp.asarray(_words(paths), jnp.uint32)
  data = jax.random.key_data(jax.vmap(jax.random.fold_in, (None, 0))(key, words))
  if not tree.is_traced(data):
    data = np.asarray(data)  # on no device, so that it goes to wherever a leaf is
  impl = jax.random.key_impl(key)
  return treedef.unflatten(
    [
      _uniform_like(leaf, data[i], impl) if tree.is_inexact(leaf) else None
      for i, leaf in enumerate(leaves)
    ]
  )


def _words(paths: list[str]) -> np.ndarray:
  """32 bits for each path, distinct within the tree; ``hash`` would differ between processes."""
  used: dict[int, None] = {}
  for path in paths:
    attempt = 0
    while (word := _word(path, attempt)) in used:
      attempt += 1
    used[word] = None
  return np.asarray(list(used), np.uint32)


def _word(path: str, attempt: int) -> int:
  digest = hashlib.blake2b(path.encode(), digest_size=4, salt=attempt.to_bytes(8, 'little'))
  return int.from_bytes(digest.digest(), 'little')


def _uniform_like(leaf: Any, data: Any, impl: Any) -> jax.Array:
  """Uniform scores of a leaf's shape, drawn where the leaf lies."""
  if not tree.is_traced(leaf, data):
    return _drawing(_placement(leaf))(data, tuple(leaf.shape), impl)
  drawn = _draw(data, tuple(leaf.shape), impl)
  if isinstance(leaf, jax.ShapeDtypeStruct):
    return drawn
  # Under a trace only an operation on both tells the partitioner that they go together.
  return jnp.where(leaf == leaf, drawn, drawn)


def _placement(leaf: Any) -> Any:
  """Where a leaf lies, or ``None`` where it may be moved."""
  if isinstance(leaf, jax.Array) and not leaf.committed:
    return None
  return getattr(leaf, 'sharding', None)


def _draw(data: Any, shape: tuple[int, ...], impl: Any) -> jax.Array:
  return jax.random.uniform(jax.random.wrap_key_data(data, impl=impl), shape, jnp.float32)


@functools.lru_cache(maxsize=64)
def _drawing(sharding: Any) -> Callable[..., jax.Array]:
  return jax.jit(_draw, static_argnums=(1, 2), out_shardings=sharding)
