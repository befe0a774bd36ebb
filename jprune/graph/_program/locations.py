"""Where in the user's code equations come from."""

from __future__ import annotations

import os
import pathlib
import re
import sys
from typing import Any

from jax.extend.core import JaxprEqn

from jprune.graph._axes.atoms import Cause
from jprune.graph._program.frame import Frame

_LIBRARIES = tuple(
  f'{os.sep}{name}{os.sep}' for name in ('jax', 'jaxlib', 'numpy', 'flax', 'equinox', 'haiku')
)
_OURS = str(pathlib.Path(__file__).parents[2])
# What cells and typed lines are called as files: by IPython and Colab, with their number; by
# ipykernel, a file that isn't there; by Python's own prompt.
_NUMBERED = re.compile(r'<?(?:ipython|python)-input-([0-9]+)\b.*')
_NAMED = re.compile(r'In *\[([0-9]+)\]')
_CELL = re.compile(r'.*[/\\](?:ipykernel|marimo|xpython)_[0-9]+[/\\][^/\\]*')
_PROMPTS = {'<stdin>': 'the prompt', '<string>': 'a string'}


def line(eqn: JaxprEqn) -> str:
  """Where in the user's code an equation comes from, or nothing if unknown.

  ``file.py:12``; of a notebook ``cell 3, line 12``.
  """
  traceback = getattr(eqn.source_info, 'traceback', None)
  frames = list(getattr(traceback, 'frames', ()) or ())
  for frame in frames:
    name = frame.file_name
    if not any(each in name for each in _LIBRARIES) and not _is_ours_or_pythons(name):
      return place_in(name, frame.line_num)
  return ''


def place_in(name: str, number: int) -> str:
  """A line of a file, of a cell of a notebook, or of what was typed."""
  base = os.path.basename(name)
  if cell := _NUMBERED.fullmatch(base) or _NAMED.fullmatch(_called(name)):
    return f'cell {cell[1]}, line {number}'
  if _CELL.fullmatch(name):
    return f'a notebook cell, line {number}'
  return f'{_PROMPTS[name]}, line {number}' if name in _PROMPTS else f'{base}:{number}'


def _called(name: str) -> str:
  """What IPython, if it runs, calls the cell that it compiles as a file of this name: ``In[3]``."""
  module = sys.modules.get('IPython')
  shell = module.get_ipython() if module is not None else None
  compiler: Any = getattr(shell, 'compile', None)
  found = compiler.format_code_name(name) if hasattr(compiler, 'format_code_name') else None
  return found[1] if found else ''


def place(eqn: JaxprEqn, frame: Frame | None) -> str:
  """Where an equation of a frame comes from, or else what called the frame."""
  where = line(eqn)
  while not where and frame is not None and frame.caller is not None:
    frame, eqn = frame.caller
    where = line(eqn)
  return where


def _is_ours_or_pythons(name: str) -> bool:
  if name.startswith(_OURS):
    return True
  return name.startswith(os.path.dirname(os.__file__) + os.sep) and 'site-packages' not in name


def described(cause: Cause) -> str:
  """A cause as text, with its source line."""
  where = '' if cause.eqn is None else place(cause.eqn, cause.frame)
  return f'{cause.text} ({where})' if where else cause.text
