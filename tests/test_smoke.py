"""What ``pytest -m smoke`` runs is there, and touches every folder of tests."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent


def test_each_line_names_a_test_and_each_folder_has_one():
  lines = (ROOT / 'tests/smoke.txt').read_text().split()
  for line in lines:
    path, _, test = line.partition('::')
    source = (ROOT / path).read_text()
    assert re.search(rf'^def {test.partition("[")[0] or "test_"}', source, re.MULTILINE), line
  folders = {path.parent for path in (ROOT / 'tests').rglob('test_*.py')}
  assert folders == {(ROOT / line.partition('::')[0]).parent for line in lines}
