"""Every code block of the README and the guides runs, and every public name is explained."""

import importlib.util
import os
import pathlib
import re
import shlex
import tomllib

import jax
import pytest

from jprune._cli._parser import parsed

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
  ROOT / 'README.md',
  ROOT / 'docs/index.md',
  *sorted((ROOT / 'docs/guides').glob('[!i]*.md')),  # all but the index
  *sorted((ROOT / 'docs/recipes').glob('[!i]*.md')),
]
# `.ci/run` runs the others once, where it builds them: they show what their blocks print.
RUN = PAGES[:1] if 'CI' in os.environ else PAGES
BLOCK = re.compile(r'^```python\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def _public_names():
  spec = importlib.util.spec_from_file_location('public_names', ROOT / 'docs/public_names.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _run_blocks(page: pathlib.Path) -> int:
  """Runs the Python blocks of a page in one namespace, with JAX as it is out of the box.

  Line numbers in a traceback are those of the page.
  """
  text = page.read_text()
  namespace = {'__name__': page.stem}
  blocks = list(BLOCK.finditer(text))
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    for block in blocks:
      above = '\n' * text.count('\n', 0, block.start(1))
      exec(compile(above + block.group(1), str(page), 'exec'), namespace)
  return len(blocks)


@pytest.mark.parametrize('page', RUN, ids=lambda page: page.stem)
def test_code_blocks_run(page, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert _run_blocks(page) > 0


def test_a_failing_block_fails(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text('# Page\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n')
  with pytest.raises(AssertionError):
    _run_blocks(page)


def test_public_names_are_documented():
  public = _public_names()
  assert 'jprune.masks.apply' in public.public_names()
  assert public.undocumented() == []


def test_public_fields_and_signatures_name_no_private_class():
  """The docs would refer to a class that has no entry."""
  private = re.compile(r'\b_[A-Z]\w*')
  found = {}
  for name, value in _public_names().public_names().items():
    for each in (value, *(vars(value).values() if isinstance(value, type) else ())):
      for argument, kind in getattr(each, '__annotations__', {}).items():
        if private.search(str(kind)) and argument[0] != '_':
          found[name] = kind
  assert found == {}


def test_every_namespace_has_an_api_page():
  pages = {path.stem for path in (ROOT / 'docs/api').glob('*.md')} - {'index'}
  assert pages == {name.rpartition('.')[2] for name in _public_names().namespaces()}


def _links(page: pathlib.Path) -> set[pathlib.Path]:
  """What a page links to; the docs build copies notebooks, so that these stand in ``examples``."""
  targets = re.findall(r'\]\(([^)#\s]+)(?:#[^)]*)?\)', page.read_text())
  found = {(page.parent / target).resolve() for target in targets if '://' not in target}
  copies = ROOT / 'docs/examples'
  copied = lambda path: path.parent == copies and path.suffix == '.ipynb'
  return {ROOT / 'examples' / path.name if copied(path) else path for path in found}


def test_links_lead_somewhere():
  others = (ROOT / name for name in ('CONTRIBUTING.md', 'CHANGELOG.md', 'docs/performance.md'))
  for page in [*PAGES, *others]:
    for target in _links(page):
      assert target.exists(), f'{page.name} links to {target}'


@pytest.mark.parametrize(
  'fronts', [['README'], ['docs/guides/index', 'docs/examples/index', 'docs/api/index']]
)
def test_all_is_linked_from_the_front_pages(fronts):
  guides = {page for page in PAGES if page.parent.name == 'guides'}
  notebooks = set((ROOT / 'examples').glob('*.ipynb'))
  pages = [ROOT / f'{front}.md' for front in fronts]
  text = ''.join(page.read_text() for page in pages)
  assert guides | notebooks <= set.union(*map(_links, pages))
  assert [name for name in _public_names().namespaces() if f'`{name}' not in text] == []


def test_commands_are_understood():
  """Those in the shell blocks: options of the command line, and benchmarks, that exist."""
  others = (ROOT / name for name in ('CONTRIBUTING.md', 'docs/performance.md'))
  text = '\n'.join(page.read_text() for page in [*PAGES, *others]).replace('\\\n', ' ')
  shell = '\n'.join(re.findall(r'^```bash\n(.*?)^```$', text, re.MULTILINE | re.DOTALL))
  commands = re.findall(r'^(?:python -m )?jprune (.+)$', shell, re.MULTILINE)
  assert len(commands) >= 3
  for command in commands:
    if '>' not in command:  # what a shell makes a file of is no command
      parsed(shlex.split(command))
  benchmarks = set(re.findall(r'python -m (tests\.benchmarks\.\w+)', text))
  files = {path.stem for path in (ROOT / 'tests/benchmarks').glob('*.py')}
  assert benchmarks == {f'tests.benchmarks.{name}' for name in files if name[:5] != 'test_'}


def test_the_readme_installs_extras_that_exist():
  extras = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['optional-dependencies']
  named = re.findall(r'\.\[(\w+)\]', (ROOT / 'README.md').read_text())
  assert {'examples', 'test'} <= set(named) <= set(extras)
