"""A report as a file: what ``save`` of all reports does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from jprune import _checks
from jprune.io._atomic import replacing
from jprune.report import _errors


def save(path: Any, data: Callable[[], dict[str, Any]], page: Callable[[str], str]) -> None:
  """Writes plain data or a page, as the name ends; the file appears at once.

  Args:
    path: of the file.
    data: makes what goes into ``.json``.
    page: makes what goes into ``.html``, given the file's name without its end.
  """
  name = _checks.as_path('save', path)
  stem, end = os.path.splitext(os.path.basename(name))
  if end not in ('.json', '.html'):
    raise _errors.bad_suffix('save', name)
  _checks.check_output('save', name)
  text = page(stem) if end == '.html' else json.dumps(data(), indent=2, allow_nan=False) + '\n'
  with replacing(name) as (file, _):
    file.write(text.encode('utf-8', 'replace'))
