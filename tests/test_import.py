"""What importing jprune costs, and what it needs."""

import ast
import json
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import jprune

OPTIONAL = (
  'matplotlib',
  'msgpack',
  'safetensors',
  'shtab',
  'treescope',
  'tqdm',
  'sklearn',
  'orbax',
  'equinox',
)


def loaded_by(code: str) -> list[str]:
  """The optional packages that a fresh interpreter holds after running ``code``."""
  report = f'import json, sys; print(json.dumps([m for m in {OPTIONAL} if m in sys.modules]))'
  command = [sys.executable, '-W', 'ignore', '-c', f'{code}\n{report}']
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  return json.loads(done.stdout.splitlines()[-1])


def test_import_loads_no_optional_package():
  assert loaded_by('import jprune') == []
  assert loaded_by('from jprune import *') == []


def test_names_load_when_they_are_asked_for():
  code = 'import sys, jprune; assert "jax" not in sys.modules; jprune.prune; jprune.io.open'
  subprocess.run([sys.executable, '-c', code], check=True)
  assert all(hasattr(jprune, name) for name in jprune.__all__)
  assert set(jprune.__all__) <= set(dir(jprune))
  with pytest.raises(AttributeError, match="module 'jprune' has no attribute 'prun'"):
    jprune.prun  # noqa: B018


def test_type_checkers_see_what_is_loaded():
  tree = ast.parse(pathlib.Path(jprune.__file__).read_text())
  (block,) = (node for node in tree.body if isinstance(node, ast.If))
  seen = {alias.asname: node.module for node in block.body for alias in node.names}
  homes = {name: f'jprune.{home}' for name, home in jprune._HOME.items()}
  homes = {name: homes.get(name, 'jprune') for name in jprune.__all__}
  assert set(seen) == set(homes)
  # a room may say more exactly where a name is
  assert [n for n in seen if not f'{seen[n]}.'.startswith(f'{homes[n]}.')] == []


def test_rooms_load_no_optional_package():
  # nnx may: flax.nnx itself loads treescope. equinox is what its name says.
  names = [info.name for info in pkgutil.walk_packages(jprune.__path__, 'jprune.')]
  names = [name for name in names if name not in ('jprune.nnx', 'jprune.equinox')]
  assert names
  assert loaded_by('import ' + ', '.join(names)) == []


def test_import_starts_no_backend():
  # The first computation fixes the platform and the number of devices; that is the user's call.
  code = 'from jprune import *; from jax._src import xla_bridge as xb; assert not xb._backends'
  subprocess.run([sys.executable, '-c', code], check=True)
