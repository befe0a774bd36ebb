"""Where reports say that something stands: files, cells of notebooks, what was typed."""

import sys
import types

import jax.numpy as jnp
import pytest

from jprune._text.table import width
from jprune.graph import ChannelGraph, channels
from jprune.graph._program.locations import place_in

SOURCE = 'import jax.numpy as jnp\n\ndef fn(params, x):\n  return jnp.sort(x @ params, axis=-1)\n'


@pytest.mark.parametrize(
  ('name', 'place'),
  [
    ('/home/me/model.py', 'model.py:12'),
    ('/tmp/ipykernel_3141/2718281828.py', 'a notebook cell, line 12'),
    (r'C:\Temp\ipykernel_3141\2718281828.py', 'a notebook cell, line 12'),
    ('/tmp/marimo_3141/__marimo__cell_Hbol_.py', 'a notebook cell, line 12'),
    ('/home/ipykernel_fork/model.py', 'model.py:12'),
    ('<ipython-input-7-0123456789ab>', 'cell 7, line 12'),
    ('/tmp/ipython-input-7-1234.py', 'cell 7, line 12'),
    ('<python-input-3>', 'cell 3, line 12'),
    ('<stdin>', 'the prompt, line 12'),
    ('<string>', 'a string, line 12'),
  ],
)
def test_places_are_named_as_their_readers_know_them(name, place):
  assert place_in(name, 12) == place


def reasons(name, size):
  # Of another size than before, for JAX keeps what it has traced, with its lines.
  scope = {}
  exec(compile(SOURCE, name, 'exec'), scope)
  graph = channels(scope['fn'], jnp.ones((3, size)), jnp.ones((1, 3)))
  return graph.frozen[('', 1)]


def test_reasons_name_the_cell_that_ipython_compiled(monkeypatch):
  cell = '/tmp/ipykernel_12/345.py'
  assert '(a notebook cell, line 4)' in reasons(cell, 4)
  named = {cell: ('Cell', 'In[5]')}
  shell = types.SimpleNamespace(compile=types.SimpleNamespace(format_code_name=named.get))
  module = types.ModuleType('IPython')
  module.get_ipython = lambda: shell
  monkeypatch.setitem(sys.modules, 'IPython', module)
  assert '(cell 5, line 4)' in reasons(cell, 5)
  assert '(a notebook cell, line 4)' in reasons('/tmp/ipykernel_12/678.py', 6)
  module.get_ipython = lambda: None  # imported, but not what runs
  assert '(a notebook cell, line 4)' in reasons(cell, 7)


def test_ipython_calls_cells_so():
  compilerop = pytest.importorskip('IPython.core.compilerop')
  compiler = compilerop.CachingCompiler()
  name = compiler.cache('1 + 1', 9)
  assert compiler.format_code_name(name) == ('Cell', 'In[9]')
  assert place_in(name, 1) == 'cell 9, line 1'


@pytest.mark.parametrize('columns', [40, 60, 100, 200])
def test_reasons_are_never_cut(columns, monkeypatch):
  monkeypatch.setenv('COLUMNS', str(columns))
  why = (
    'a factor of it: 0:1,234,567, 2,345,678:3,456,789: what is read from a buffer at an index that '
    'depends on data (some/folders/that/lead/to/a_model_of_mine.py:1234); model output'
  )
  lines = str(ChannelGraph((), {('w', 0): why}, {}, None, {}, None, ())).splitlines()
  text = ' '.join(' '.join(lines).split())
  assert f'{why} (1): w[0]' in text
  longest = len('    (some/folders/that/lead/to/a_model_of_mine.py:1234);')  # one word
  assert max(map(len, lines)) <= max(width(), longest)
