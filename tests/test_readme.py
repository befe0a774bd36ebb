"""What the README, the citation and the workflows say is what stands elsewhere."""

import pathlib
import re
import tomllib

import jax
import pytest
import yaml

from tests import zoo
from tests.test_docs import BLOCK

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / 'README.md').read_text()
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
EXTRAS = PROJECT['optional-dependencies']
WORKFLOWS = {path.stem: path for path in (ROOT / '.github/workflows').glob('*.yml')}


def rows(text, title):
  """The cells of the first table under a title, without its head."""
  section = text.split(f'\n## {title}\n')[1].split('\n## ')[0]
  table = [line for line in section.splitlines() if line.startswith('|')]
  return [[cell.strip() for cell in line.strip('|').split('|')] for line in table[2:]]


def lowest():
  """The oldest version of each package that may be installed."""
  found = dict(re.findall(r'([\w-]+)>=([\d.]+)', ' '.join(PROJECT['dependencies'])))
  found |= re.findall(r'([\w-]+)>=([\d.]+)', ' '.join(EXTRAS['equinox']))
  return found | {'python': PROJECT['requires-python'].removeprefix('>=')}


def test_badges_say_what_can_be_installed():
  badges = dict(re.findall(r'shields\.io/badge/(\w+)-(.+)-blue', README))
  assert badges['python'] == f'{lowest()["python"]}+'
  assert badges['jax'] == f'{lowest()["jax"]}+'
  assert badges['licence'].replace('--', '-') == PROJECT['license']


def test_oldest_versions_are_the_lower_bounds():
  parts = lambda version: [int(part) for part in version.split('.')]
  named = set()
  for name, newest, oldest in rows(README, 'Compatibility'):
    package = name.split()[0].lower()
    named.add(package)
    assert oldest == lowest()[package]
    assert parts(newest) >= parts(oldest)
  assert named == lowest().keys() - {'chex'}


def test_clone_is_of_the_address_of_the_project():
  assert f'git clone {PROJECT["urls"]["Repository"]} ' in README
  assert f'({PROJECT["urls"]["Documentation"]})' in README
  assert f'pip install {PROJECT["name"]}\n' in README


def test_tally_is_the_one_that_is_printed(capsys, monkeypatch):
  monkeypatch.setenv('COLUMNS', '100')  # as where there is no terminal
  names = {}
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    exec(BLOCK.search(README).group(1), names)
    exec(re.search(r'^`(print\(jprune\.tally\(.*\))`', README, re.MULTILINE).group(1), names)
  shown = re.search(r'^```text\n(.*?)^```$', README, re.MULTILINE | re.DOTALL).group(1)
  assert capsys.readouterr().out == shown


def test_families_have_the_networks_that_are_counted():
  found = {}
  for family, count, _ in rows(README, 'Shrunk exactly'):
    module = re.search(r'\(tests/zoo/(\w+)\.py\)', family).group(1)
    found[module] = int(count)
  modules = {module.__name__.rpartition('.')[2]: module for module in zoo.MODULES}
  assert found == {name: len(module.CASES) for name, module in modules.items()}


def test_comparisons_are_those_of_the_page_of_times():
  page = (ROOT / 'docs/performance.md').read_text()
  measured = {(what, beside): ratio for what, beside, *_, ratio, _ in _filled(page)}
  stated = {(what, beside): ratio for what, beside, ratio in _filled(README)}
  assert stated
  assert stated.items() <= measured.items()


def _filled(text):
  """The rows of the comparison; a row without a first cell goes on with the one above."""
  what = ''
  for first, *others in rows(text, 'Beside others' if text is README else 'Beside other libraries'):
    what = first or what
    yield [what, *others]


def test_citation_agrees_with_the_project():
  citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
  assert citation.keys() >= {'cff-version', 'message', 'title', 'authors', 'type'}
  assert citation['version'] == PROJECT['version']
  assert citation['license'] == PROJECT['license']
  assert citation['url'] == PROJECT['urls']['Documentation']
  assert citation['repository-code'] == PROJECT['urls']['Repository']
  assert citation['keywords'] == PROJECT['keywords']


# ------------------------------------------------------------------------------------ workflows


def workflow(name):
  return yaml.safe_load(WORKFLOWS[name].read_text())


def test_workflow_runs_the_steps_of_the_script():
  script = (ROOT / '.ci/run').read_text()
  steps = re.findall(r'^run_(\w+)\(\)', script, re.MULTILINE)
  job = workflow('ci')['jobs']['run']
  assert sorted(job['strategy']['matrix']['step']) == sorted(steps)
  assert '.ci/run ${{ matrix.step }}' in [step.get('run') for step in job['steps']]


def test_pages_are_built_as_by_the_script():
  lines = [step.get('run', '') for step in workflow('docs')['jobs']['build']['steps']]
  (build,) = [line for line in lines if line.startswith('sphinx-build')]
  assert ' -W ' in build
  assert "pip install '.[docs]'" in lines


@pytest.mark.parametrize('name', sorted(WORKFLOWS))
def test_a_workflow_may_read_and_no_more(name):
  given = workflow(name)
  assert given['permissions'] == {'contents': 'read'}
  assert given['concurrency']
  for job in given['jobs'].values():
    version = lowest()['python']
    for step in job['steps']:
      assert ('uses' in step) != ('run' in step)
      assert re.fullmatch(r'actions/[\w-]+@v\d+', step.get('uses', 'actions/none@v0'))
      assert step.get('with', {}).get('python-version', version) == version
