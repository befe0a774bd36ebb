"""Where in the user's code equations come from."""

from __future__ import annotations

import os
import pathlib

from jax.extend.core import JaxprEqn

from jprune.graph._axes.atoms import Cause
from jprune.graph._program.frame import Frame

_LIBRARIES = tuple(
  f'{os.sep}{name}{os.sep}' for name in ('jax', 'jaxlib', 'numpy', 'flax', 'equinox', 'haiku')
)
_OURS = str(pathlib.Path(__file__).parents[2])


def line(eqn: JaxprEqn) -> str:
  """Where in the user's code an equation comes from: ``file.py:12``, or nothing if unknown."""
  traceback = getattr(eqn.source_info, 'traceback', None)
  frames = list(getattr(traceback, 'frames', ()) or ())
  for frame in frames:
    name = frame.file_name
    if not any(each in name for each in _LIBRARIES) and not _is_ours_or_pythons(name):
      return f'{os.path.basename(name)}:{frame.line_num}'
  return ''


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
