"""Argument checks; the only place where messages are worded.

A function whose name is a noun phrase builds the error for its caller to raise; one whose name
is ``check_...`` raises it itself. Every message reads
``{function}: `{argument}` must be {constraint}; got {value} [at leaf '{path}']. {What to do.}``
Values are looked at only where they are concrete; under a trace only shapes and dtypes are.
"""

from __future__ import annotations

import difflib
import numbers
import os
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def message(
  function: str, argument: str, constraint: str, value: str, fix: str = '', path: str | None = None
) -> str:
  """The sentence that every message is; ``value`` is text already."""
  where = '' if path is None else f" at leaf '{path}'"
  return f'{function}: `{argument}` must be {constraint}; got {value}{where}. {fix}'.rstrip()


def kind(leaf: Any) -> str:
  """How a message shows a leaf: dtype and shape of an array, else its type."""
  if hasattr(leaf, 'shape') and hasattr(leaf, 'dtype'):
    return f'{leaf.dtype} of shape {tuple(leaf.shape)}'
  return type(leaf).__name__


def listed(names: Iterable[str], most: int = 3) -> str:
  """The first few names, quoted, and how many more there are."""
  names = list(names)
  shown = ', '.join(f"'{name}'" for name in names[:most])
  return shown + (f' and {len(names) - most} more' if len(names) > most else '')


# ---------------------------------------------------------------------- trees and leaf filters


def empty_tree(function: str, argument: str = 'params') -> ValueError:
  return ValueError(
    message(
      function,
      argument,
      'a tree with at least one leaf',
      'an empty tree',
      "Pass the model's parameters.",
    )
  )


def other_structure(
  function: str, argument: str, expected: Sequence[str], found: Sequence[str], error: Exception
) -> ValueError:
  """``argument`` hasn't the structure of the params: says which paths differ."""
  missing = [path for path in expected if path not in set(found)]
  extra = [path for path in found if path not in set(expected)]
  if missing or extra:
    parts = [f'no leaf {listed(missing)}'] if missing else []
    parts += [f'an unknown leaf {listed(extra)}'] if extra else []
    got = ' and '.join(parts)
  else:
    got = f'the same leaf paths in other containers ({error})'
  fix = 'Build it with jax.tree.map over the params; None leaves are allowed.'
  return ValueError(message(function, argument, 'a tree with the structure of `params`', got, fix))


def nothing_selected(function: str, where: Any, paths: Sequence[str]) -> ValueError:
  near = [
    p
    for p in paths
    if isinstance(where, str) and difflib.SequenceMatcher(None, where, p).ratio() > 0.5
  ]
  got = f'where={where!r}, which selects no weights out of {listed(paths)}'
  fix = (
    f'Did you mean {listed(near)}?'
    if near
    else (
      'By default floating leaves with two or more dimensions are selected.'
      if where is None
      else 'Leaf paths look like those above.'
    )
  )
  return ValueError(message(function, 'where', 'a filter that selects at least one leaf', got, fix))


def not_floating(function: str, argument: str, path: str, leaf: Any) -> TypeError:
  constraint = (
    'floating where it is pruned' if argument != 'where' else 'a filter of floating leaves'
  )
  return TypeError(
    message(function, argument, constraint, kind(leaf), 'Exclude the leaf with where=.', path)
  )


def bad_regex(function: str, where: Any, error: Exception) -> ValueError:
  fix = 'Escape special characters, or pass a predicate (path, leaf) -> bool.'
  return ValueError(message(function, 'where', 'a regular expression', f'{where!r} ({error})', fix))


def bad_where(function: str, where: Any) -> TypeError:
  constraint = 'a predicate, a regular expression, a non-empty list of these, or a tree of bools'
  return TypeError(message(function, 'where', constraint, repr(where), 'See jprune.typing.Where.'))


def as_bool(function: str, answer: Any, path: str) -> bool:
  """The answer of a user's predicate, refused unless it is a bool."""
  if isinstance(answer, (bool, np.bool_)):
    return bool(answer)
  fix = 'Return True to select the leaf.'
  raise TypeError(
    message(function, 'where', 'a predicate that returns a bool', repr(answer), fix, path)
  )


# ------------------------------------------------------------------------------ arrays in trees


def check_shape(function: str, argument: str, path: str, leaf: Any, shape: tuple[int, ...]) -> None:
  if not hasattr(leaf, 'shape') or tuple(leaf.shape) != tuple(shape):
    fix = 'Was it made for other params?'
    raise ValueError(message(function, argument, f'of shape {tuple(shape)}', kind(leaf), fix, path))


def check_bool(function: str, argument: str, path: str, leaf: Any) -> None:
  if not hasattr(leaf, 'dtype') or leaf.dtype != jnp.bool_:
    fix = 'Compare first, for example mask > 0; None leaves a leaf dense.'
    raise TypeError(message(function, argument, 'of dtype bool', kind(leaf), fix, path))


def check_floating(function: str, argument: str, path: str, leaf: Any) -> None:
  if not (
    hasattr(leaf, 'dtype') and hasattr(leaf, 'shape') and jnp.issubdtype(leaf.dtype, jnp.floating)
  ):
    fix = 'Use None for leaves that are not to be pruned.'
    raise TypeError(message(function, argument, 'a floating array', kind(leaf), fix, path))


def check_no_nan(function: str, argument: str, path: str, leaf: Any) -> None:
  """NaN has no rank. Looks at concrete values only."""
  if isinstance(leaf, jax.core.Tracer) or leaf.size == 0:
    return
  small = leaf.size < 2**18 and getattr(leaf, 'is_fully_addressable', True)
  if small or isinstance(leaf, np.ndarray):
    found = np.isnan(np.asarray(leaf)).any()  # nothing to compile
  else:
    found = jnp.isnan(jnp.max(leaf))  # max hands NaN on, in a single read
  if bool(found):
    fix = 'Fix the params or the scorer; NaN has no rank.'
    raise ValueError(message(function, argument, 'free of NaN', 'NaN', fix, path))


def check_numeric(function: str, argument: str, value: Any, path: str | None = None) -> None:
  scalar = hasattr(value, 'shape') and hasattr(value, 'dtype') and value.shape == ()
  if isinstance(value, bool) or not (isinstance(value, numbers.Real) or scalar):
    raise TypeError(message(function, argument, 'a number', repr(value), '', path))


def check_fraction(function: str, argument: str, value: Any, path: str | None = None) -> None:
  """A sparsity or a rate: a number in [0, 1]. A tracer passes."""
  check_numeric(function, argument, value, path)
  if isinstance(value, jax.core.Tracer):
    return
  if not 0.0 <= float(value) <= 1.0:  # NaN is refused too
    fix = 'It is the fraction of zeros, not a percentage.'
    raise ValueError(message(function, argument, 'in [0, 1]', f'{float(value)!r}', fix, path))


def check_key(function: str, key: Any) -> None:
  if key is None:
    raise TypeError(
      message(function, 'key', 'a typed random key', 'None', 'Pass key=jax.random.key(seed).')
    )
  typed = hasattr(key, 'dtype') and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
  if not typed or key.shape != ():
    fix = 'Pass key=jax.random.key(seed).'
    raise TypeError(message(function, 'key', 'one typed random key', kind(key), fix))


def check_positive_int(function: str, argument: str, value: Any) -> None:
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
    raise ValueError(message(function, argument, 'an int of at least 1', repr(value)))


# ------------------------------------------------------------------------- masks and patterns


def check_int(function: str, argument: str, value: Any) -> None:
  if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
    raise TypeError(message(function, argument, 'an int', repr(value)))


def check_n_of_m(function: str, n: Any, m: Any) -> None:
  check_positive_int(function, 'm', m)
  check_positive_int(function, 'n', n)
  if n > m:
    fix = f'{function}(2, 4) keeps 2 of every 4.'
    raise ValueError(message(function, 'n', f'at most m={m}', repr(n), fix))


def bad_block(shape: Any) -> TypeError:
  constraint = 'a tuple of two ints, rows and columns'
  return TypeError(message('Block', 'shape', constraint, repr(shape), 'For example Block((4, 4)).'))


def check_axis(function: str, axis: int, path: str, shape: tuple[int, ...]) -> None:
  if not -len(shape) <= axis < len(shape):
    constraint = f'an axis of a leaf with {len(shape)} dimensions'
    fix = 'Exclude the leaf with where=, or choose another axis.'
    raise ValueError(message(function, 'axis', constraint, f'{axis}', fix, path))


def too_few_dimensions(
  function: str, pattern: str, path: str, shape: tuple[int, ...]
) -> ValueError:
  constraint = f'of two or more dimensions for {pattern}'
  fix = 'Exclude the leaf with where=.'
  return ValueError(message(function, 'scores', constraint, f'shape {shape}', fix, path))


def not_divisible(
  function: str, axis: int, path: str, shape: tuple[int, ...], what: str, length: int
) -> ValueError:
  return ValueError(
    f"{function}: axis {axis} of leaf '{path}' must be divisible by {what}={length}; "
    f'got shape {shape}. Exclude the leaf with where=, choose another size, or pass pad=True.'
  )


def pattern_has_sparsity(function: str, pattern: Any, value: Any) -> ValueError:
  constraint = f'None for {pattern}, whose sparsity is its own ({pattern.sparsity:g})'
  return ValueError(message(function, 'sparsity', constraint, repr(value), 'Leave it out.'))


def pattern_not_global(function: str, pattern: Any) -> ValueError:
  fix = 'Every group of it keeps the same number: use top_k, or prune without a distribution.'
  return ValueError(message(function, 'pattern', 'one with units that compete', repr(pattern), fix))


def no_sparsity(function: str) -> TypeError:
  fix = 'Pass the fraction of zeros, for example 0.9.'
  return TypeError(message(function, 'sparsity', 'a number in [0, 1]', 'None', fix))


def key_not_wanted(function: str, scorer: Any) -> TypeError:
  got = f'a key for {getattr(scorer, "__name__", scorer)}, which takes none'
  return TypeError(
    message(function, 'key', 'None for a scorer that draws nothing', got, 'Leave it out.')
  )


def arguments_not_wanted(function: str, names: Sequence[str]) -> TypeError:
  constraint = 'a function where arguments are passed to it'
  got = f'a tree of scores and {listed(names)}'
  return TypeError(message(function, 'scorer', constraint, got, 'Leave the arguments out.'))


def check_threshold(function: str, value: Any, path: str) -> None:
  check_numeric(function, 'thresholds', value, path)
  if not isinstance(value, jax.core.Tracer) and float(value) != float(value):
    raise ValueError(message(function, 'thresholds', 'a number', 'nan', '', path))


def none_given(function: str, argument: str) -> ValueError:
  return ValueError(message(function, argument, 'at least one', 'none'))


# -------------------------------------------------------------------- transforms and schedules


def missing_params(function: str) -> ValueError:
  fix = 'Call tx.update(updates, state, params).'
  return ValueError(message(function, 'params', 'the params that the updates are for', 'None', fix))


def other_than_init(
  function: str, argument: str, expected: Sequence[str], found: Sequence[str]
) -> ValueError:
  """``update`` got another tree than the one that ``init`` saw."""
  missing = [path for path in expected if path not in set(found)]
  extra = [path for path in found if path not in set(expected)]
  parts = [f'no leaf {listed(missing)}'] if missing else []
  parts += [f'an unknown leaf {listed(extra)}'] if extra else []
  got = ' and '.join(parts) or 'the same leaves in another order'
  constraint = 'a tree with the structure of the params that `init` saw'
  return ValueError(message(function, argument, constraint, got, 'Call tx.init(params) anew.'))


def not_finite_where_pruned(function: str, path: str, count: int) -> ValueError:
  fix = 'No update takes them to 0.0: start from jprune.apply(params, masks).'
  got = f'{count} infinite or NaN'
  return ValueError(message(function, 'params', 'finite where they are pruned', got, fix, path))


def check_step(function: str, argument: str, value: Any) -> None:
  """A training step: what an int32 counter can reach."""
  whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
  if not whole or not 0 <= value < 2**31:
    raise ValueError(message(function, argument, 'an int in [0, 2**31)', repr(value)))


def check_later(function: str, argument: str, value: int, begin: int) -> None:
  if value <= begin:
    fix = 'Use one_shot for a jump.'
    raise ValueError(message(function, argument, f'greater than begin={begin}', repr(value), fix))


def check_below_one(function: str, argument: str, value: Any) -> None:
  """Where a logarithm of the density is taken."""
  if not isinstance(value, jax.core.Tracer) and float(value) == 1.0:
    fix = 'A density that shrinks by one factor never is 0; use cubic.'
    raise ValueError(message(function, argument, 'below 1', '1.0', fix))


# --------------------------------------------------------------------------------- report


def traced(function: str, argument: str, path: str, leaf: Any) -> TypeError:
  fix = 'Call it outside jit, grad and vmap.'
  got = f'a traced {kind(leaf)}'
  return TypeError(message(function, argument, 'arrays with values at hand', got, fix, path))


def no_values(function: str, argument: str, path: str, leaf: Any) -> TypeError:
  fix = 'Kept weights can be counted in real masks only; params may be shape structs.'
  got = f'a shape struct of shape {tuple(leaf.shape)}'
  return TypeError(message(function, argument, 'arrays with values at hand', got, fix, path))


def missing_library(function: str, library: str, extra: str) -> ImportError:
  fix = f"Run pip install 'jprune[{extra}]'."
  return ImportError(f"{function}: needs {library}, which isn't installed. {fix}")


# -------------------------------------------------------------------------------------- io


def as_path(function: str, path: Any) -> str:
  if not isinstance(path, (str, os.PathLike)):
    fix = "Pass a file name such as 'sparse.safetensors'."
    raise TypeError(message(function, 'path', 'a str or os.PathLike', kind(path), fix))
  name = os.fspath(path)
  if os.path.isdir(name):
    fix = 'Add a file name.'
    raise ValueError(message(function, 'path', 'the name of a file', f'the folder {name!r}', fix))
  return name


def check_folder(function: str, path: str) -> None:
  folder = os.path.dirname(os.path.realpath(path))
  if not os.path.isdir(folder):
    fix = f'Create {folder!r} first.'
    raise FileNotFoundError(message(function, 'path', 'in an existing folder', repr(path), fix))


def no_file(function: str, path: str) -> FileNotFoundError:
  fix = f'There is no such file in {os.path.dirname(os.path.abspath(path))!r}.'
  return FileNotFoundError(message(function, 'path', 'an existing file', repr(path), fix))


def check_distinct(function: str, paths: Sequence[str]) -> None:
  """Keys that hold a ``/`` can give two leaves one path."""
  twice = sorted({path for path in paths if paths.count(path) > 1}) if _repeats(paths) else []
  if twice:
    fix = "Rename a key that contains '/'."
    got = f'several leaves {listed(twice)}'
    raise ValueError(message(function, 'params', 'a tree with one leaf for each path', got, fix))


def _repeats(paths: Sequence[str]) -> bool:
  return len(set(paths)) < len(paths)


def not_storable(function: str, argument: str, path: str, leaf: Any) -> TypeError:
  """A leaf without bytes to store: a key, a tracer, a shape, a function."""
  shown = kind(leaf)
  if isinstance(leaf, jax.core.Tracer):
    shown, fix = f'a traced {shown}', 'Call it outside jit, grad and vmap.'
  elif isinstance(leaf, jax.ShapeDtypeStruct):
    shown, fix = f'a shape struct of shape {leaf.shape}', 'Pass arrays that have values.'
  elif hasattr(leaf, 'dtype') and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    fix = 'Save jax.random.key_data(key), and wrap it again after loading.'
  elif hasattr(leaf, 'dtype'):
    fix = 'Cast it to a dtype of JAX.'
  else:
    fix = 'Filter it out of the tree, or make a number an array with jnp.asarray.'
  constraint = 'a tree of arrays of numbers or bools'
  return TypeError(message(function, argument, constraint, shown, fix, path))


def not_addressable(function: str, argument: str, path: str, leaf: Any) -> ValueError:
  fix = 'Gather it first with jax.experimental.multihost_utils.process_allgather(..., tiled=True).'
  got = f'{kind(leaf)}, partly on other processes'
  return ValueError(message(function, argument, 'on devices of this process', got, fix, path))


def tensor_name_taken(function: str, name: str) -> ValueError:
  constraint = 'a tree whose leaves need differently named tensors in the file'
  fix = 'Rename the key that ends like that.'
  return ValueError(message(function, 'params', constraint, f"two tensors '{name}'", fix))


def not_storable_tree(function: str, error: Exception) -> ValueError:
  constraint = 'a tree that the safetensors format can hold'
  fix = 'Look for odd characters in its keys.'
  return ValueError(message(function, 'params', constraint, f'a header it refuses ({error})', fix))


def broken_file(function: str, path: str, size: int, error: Exception) -> ValueError:
  fix = 'It is truncated, damaged or of another format; save it again.'
  got = f'{path!r} of {size} bytes ({error})'
  return ValueError(message(function, 'path', 'a complete safetensors file', got, fix))


def foreign_file(function: str, path: str) -> ValueError:
  fix = 'Read it with safetensors.flax.load_file, and save it with jprune.save.'
  got = f'{path!r}, a safetensors file of another tool'
  return ValueError(message(function, 'path', 'a file that jprune.save wrote', got, fix))


def newer_file(function: str, path: str, version: Any, known: int) -> ValueError:
  got = f'{path!r} of version {version!r}'
  constraint = f'a file of version {known} or older'
  return ValueError(message(function, 'path', constraint, got, 'Upgrade jprune.'))


def damaged_file(function: str, path: str, detail: Any, leaf: str | None = None) -> ValueError:
  fix = 'The file is damaged or was edited by another tool; save it again.'
  got = f'{path!r} ({detail})'
  return ValueError(message(function, 'path', 'an undamaged file', got, fix, leaf))


def like_other_paths(function: str, expected: Sequence[str], found: Sequence[str]) -> ValueError:
  missing = [path for path in expected if path not in set(found)]
  extra = [path for path in found if path not in set(expected)]
  parts = [f'no leaf {listed(missing)}'] if missing else []
  parts += [f'an unknown leaf {listed(extra)}'] if extra else []
  got = ' and '.join(parts) or f'{len(found)} leaves for {len(expected)}'
  fix = 'Leave like= out to see the saved tree as plain containers.'
  return ValueError(message(function, 'like', 'a tree with the leaf paths of the file', got, fix))


def like_other_leaf(
  function: str, path: str, leaf: Any, dtype: str, shape: tuple[int, ...]
) -> ValueError:
  fix = "Pass like= with the file's shapes and dtypes, and cast after loading."
  constraint = f'{dtype} of shape {shape}, as in the file'
  return ValueError(message(function, 'like', constraint, kind(leaf), fix, path))


def check_x64(function: str, path: str, dtype: str) -> None:
  wide = dtype in ('float64', 'int64', 'uint64', 'complex128')
  if wide and not jax.config.jax_enable_x64:
    fix = "Call jax.config.update('jax_enable_x64', True) first; JAX would cut it to 32 bits."
    constraint = 'a file of numbers of at most 32 bits'
    raise ValueError(message(function, 'path', constraint, dtype, fix, path))


# ------------------------------------------------------------------- scores and distributions


def positive_number(function: str, argument: str, value: Any) -> float:
  """The number as a float; a tracer is refused, since it is compared with constants."""
  check_numeric(function, argument, value)
  if isinstance(value, jax.core.Tracer):
    raise not_static(function, argument)
  if not 0.0 < float(value) < float('inf'):
    raise ValueError(message(function, argument, 'positive and finite', f'{float(value)!r}'))
  return float(value)


def static_fraction(function: str, argument: str, value: Any, path: str | None = None) -> float:
  """A sparsity as a Python float, for what computes on the host."""
  check_fraction(function, argument, value, path)
  if isinstance(value, jax.core.Tracer):
    raise not_static(function, argument, path)
  return float(value)


def not_static(function: str, argument: str, path: str | None = None) -> TypeError:
  fix = 'Mark it static under jit, or close over it.'
  return TypeError(message(function, argument, 'a number at hand', 'a traced one', fix, path))


def check_values(function: str, path: str, leaf: Any) -> None:
  if isinstance(leaf, jax.ShapeDtypeStruct):
    got = f'a shape struct of shape {tuple(leaf.shape)}'
    fix = 'Call it under jax.eval_shape where only shapes matter.'
    raise TypeError(message(function, 'params', 'arrays', got, fix, path))


def too_large_to_sort(function: str, path: str, leaf: Any) -> ValueError:
  constraint, fix = 'of less than 2**31 weights a leaf', 'Split the leaf, or score it by magnitude.'
  return ValueError(message(function, 'params', constraint, kind(leaf), fix, path))


def nothing_scored(function: str) -> ValueError:
  fix = 'None there means that the leaf stays dense.'
  return ValueError(message(function, 'scores', 'scores for at least one leaf', 'only None', fix))


def no_mapping(function: str, argument: str, value: Any) -> TypeError:
  fix = f"For example {function}({{'Dense_0/kernel': 0.9}})."
  constraint = 'a non-empty dict from leaf path to sparsity'
  return TypeError(message(function, argument, constraint, repr(value), fix))


def unknown_paths(
  function: str, argument: str, unknown: Sequence[str], paths: Sequence[str]
) -> ValueError:
  """Names of leaves that there aren't, with the names that look like them."""
  near = [path for name in unknown for path in difflib.get_close_matches(name, paths, 2)]
  fix = f'Did you mean {listed(dict.fromkeys(near))}?' if near else f'There are {listed(paths)}.'
  got = f'{listed(unknown)}, which no leaf is called'
  return ValueError(message(function, argument, 'a dict whose keys are leaf paths', got, fix))


def not_scored(function: str, argument: str, path: str) -> ValueError:
  constraint = 'a dict of leaves that are to be pruned'
  fix = 'Select the leaf with where=, or leave it out of the dict.'
  return ValueError(message(function, argument, constraint, 'a sparsity', fix, path))


def sparsity_given(function: str, value: Any) -> ValueError:
  fix = 'The dict names the sparsity of every leaf.'
  return ValueError(message(function, 'sparsity', 'None', repr(value), fix))


def no_scores_at_hand(function: str, path: str, leaf: Any) -> TypeError:
  got = 'traced scores' if isinstance(leaf, jax.core.Tracer) else 'a shape struct'
  fix = 'Use jprune.prune or jprune.masks.top_k_global there, which need no numbers.'
  return TypeError(message(function, 'scores', 'arrays with values at hand', got, fix, path))


def non_negative_number(function: str, argument: str, value: Any) -> float:
  """The number as a float, at least 0; a tracer is refused, as in ``positive_number``."""
  check_numeric(function, argument, value)
  if isinstance(value, jax.core.Tracer):
    raise not_static(function, argument)
  if not 0.0 <= float(value) < float('inf'):
    raise ValueError(message(function, argument, 'at least 0 and finite', f'{float(value)!r}'))
  return float(value)


# ------------------------------------------------------------------------------------- nnx


def not_nnx_module(function: str, model: Any) -> TypeError:
  fix = "A linen module's apply and variables are a function and its params already."
  got = f'the class {model.__name__}' if isinstance(model, type) else kind(model)
  return TypeError(message(function, 'model', 'an instance of flax.nnx.Module', got, fix))


def no_variables(function: str, wrt: Any, paths: Sequence[str]) -> ValueError:
  if wrt is None:
    got, fix = 'a module without any', 'There is nothing to prune.'
    return ValueError(message(function, 'model', 'a module with array variables', got, fix))
  got = f'{wrt!r}, which selects none of {listed(paths)}'
  fix = 'For example wrt=nnx.Param.'
  return ValueError(message(function, 'wrt', 'a filter that selects a variable', got, fix))


def other_variables(function: str, expected: Sequence[str], found: Sequence[str]) -> ValueError:
  """The function that ``functional`` returned was called with another tree."""
  missing = [path for path in expected if path not in set(found)]
  extra = [path for path in found if path not in set(expected)]
  parts = [f'no leaf {listed(missing)}'] if missing else []
  parts += [f'an unknown leaf {listed(extra)}'] if extra else []
  constraint = 'a tree with the leaf paths of the params that came with `fn`'
  fix = 'Call functional with the same wrt= for both.'
  return ValueError(message(function, 'params', constraint, ' and '.join(parts), fix))


def unknown_variables(function: str, unknown: Sequence[str], paths: Sequence[str]) -> ValueError:
  constraint = 'a tree whose leaf paths are among those of `model`'
  got = f'an unknown leaf {listed(unknown)}'
  return ValueError(message(function, 'params', constraint, got, f'It has {listed(paths)}.'))
