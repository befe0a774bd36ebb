"""The script that measures on a GPU, where there is none."""

import pytest

from tests.benchmarks import gpu


def test_writes_what_was_measured_between_the_comments_of_a_page(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text(f'before\n{gpu.BEGIN}\nold\n{gpu.END}\nafter\n')
  given = '--allow-cpu --small --parts training_step --no-tests --out'
  gpu.main([*given.split(), str(page)])
  text = page.read_text()
  assert text.startswith(f'before\n{gpu.BEGIN}\nMeasured on one cpu, with JAX ')
  assert text.endswith(f'\n{gpu.END}\nafter\n')
  assert '\n| training_step | ' in text
  assert 'old' not in text


def test_the_page_has_a_place_for_the_table():
  text = gpu.PAGE.read_text()
  assert text.index(gpu.BEGIN) < text.index(gpu.END)


@pytest.mark.parametrize('given', [[], ['--allow-cpu']])
def test_numbers_of_no_gpu_stay_out_of_the_page(given, monkeypatch):
  monkeypatch.setattr(gpu, 'python', lambda *args, **variables: 'cpu|cpu|0.10.2')
  with pytest.raises(SystemExit, match='no GPU'):
    gpu.main(given)


def test_a_page_without_the_comments_is_left_alone(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text('text')
  with pytest.raises(SystemExit, match='must hold'):
    gpu.write(page, 'table')
  assert page.read_text() == 'text'
