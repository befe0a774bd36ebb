"""What importing jprune costs, and what it needs."""

import json
import pkgutil
import subprocess
import sys

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


def test_threads_find_all_names_loaded():
  code = 'import jprune; assert set(jprune.__all__) <= set(vars(jprune))'
  subprocess.run([sys.executable, '-c', code], check=True)


def test_rooms_of_other_libraries_load_when_they_are_asked_for():
  assert loaded_by('import jprune; jprune.equinox.functional') == ['equinox']
  code = 'import jprune; jprune.nnx.functional'
  subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)


def test_a_misspelt_name_is_answered_with_what_was_meant():
  command = [sys.executable, '-c', 'import jprune; jprune.pruen']
  said = subprocess.run(command, capture_output=True, text=True).stderr
  assert "module 'jprune' has no attribute 'pruen'. Did you mean: 'prune'?" in said


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
