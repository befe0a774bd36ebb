"""A tally as a file: plain data, and the page that the command line writes."""

from __future__ import annotations

import json
import os
import re

import jax.numpy as jnp
import pytest

import jprune
from tests.cli.files import run

PARAMS = {'block_0': {'mlp': {'kernel': jnp.eye(8)}}, 'head': {'bias': jnp.ones(3)}}


def test_a_tally_as_a_file(tmp_path):
  tally = jprune.tally(PARAMS)
  tally.save(tmp_path / 'net.json')
  assert json.loads((tmp_path / 'net.json').read_text()) == tally.to_dict()
  tally.save(str(tmp_path / 'net.html'))
  page = (tmp_path / 'net.html').read_text('utf-8')
  for words in ('<h1>net</h1>', 'Sparsity by layer', 'block_0/mlp/kernel', 'width:87.50%'):
    assert words in page
  assert not re.search(r'(src|href)=|@import|url\(|<script', page)  # nothing beside it
  assert sorted(os.listdir(tmp_path)) == ['net.html', 'net.json']


def test_it_is_the_page_of_the_command(tmp_path):
  file = tmp_path / 'net.safetensors'
  jprune.save(file, PARAMS)
  run('report', file, '--html', tmp_path / 'page.html')
  jprune.tally(PARAMS).save(tmp_path / 'net.safetensors.html')
  page = (tmp_path / 'page.html').read_text('utf-8')
  assert page == (tmp_path / 'net.safetensors.html').read_text('utf-8')


def test_an_empty_leaf_has_no_infinity(tmp_path):
  masks = {'w': jnp.zeros((2, 2), bool)}
  jprune.tally({'w': jnp.ones((2, 2))}, masks).save(tmp_path / 'a.json')
  json.loads((tmp_path / 'a.json').read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize('name', ['report.txt', 'report', 'report.png'])
def test_names_that_end_otherwise(tmp_path, name):
  words = "^save: `path` must be a name that ends in '.json' or '.html'; got .*jprune.save.$"
  with pytest.raises(ValueError, match=words):
    jprune.tally(PARAMS).save(tmp_path / name)
  assert not os.listdir(tmp_path)


def test_names_that_no_file_can_have(tmp_path):
  with pytest.raises(FileNotFoundError, match='save: `path` must be in an existing folder'):
    jprune.tally(PARAMS).save(tmp_path / 'no' / 'report.html')
  with pytest.raises(TypeError, match='save: `path` must be a str or os.PathLike; got int'):
    jprune.tally(PARAMS).save(3)
