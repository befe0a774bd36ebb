"""A program: lines of Python over ``jnp`` and ``lax``, as plain data.

What is run is what is printed. Names say what a value is: ``w3`` a param, ``x1`` an input, ``a4``
an argument of a body, ``v7`` a result, ``f5`` a body.
"""

import contextlib
import re
import warnings
import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.programs import _library

NAME = re.compile(r'\b[wxavf]\d+\b')
_HEADER = """\
import jax, jprune
import jax.numpy as jnp
import numpy as np
from jax import lax
from tests.programs import _check, _library as lib
from tests.programs._program import Leaf, setting, value
"""


class Leaf(NamedTuple):
  """A param or an input; its values follow from its name."""

  shape: tuple[int, ...]
  dtype: str = 'float64'
  kind: str = 'normal'


class Body(NamedTuple):
  """A function inside of a program; what it doesn't define it takes from outside."""

  name: str
  args: tuple[str, ...]
  lines: tuple['Line', ...]
  result: str


class Line(NamedTuple):
  """``outs = text``, after the functions that the text calls."""

  outs: tuple[str, ...]
  text: str
  bodies: tuple[Body, ...] = ()
  several: bool = False  # whether the text gives a sequence, even if of one


class Program(NamedTuple):
  """Params, inputs, lines, what is returned, and which params get a new value."""

  params: dict[str, Leaf]
  inputs: dict[str, Leaf]
  lines: tuple[Line, ...]
  outs: tuple[str, ...]
  states: dict[str, str] = {}  # noqa: RUF012


# ------------------------------------------------------------------------------------- text


def free(body):
  """Names that a body takes from outside."""
  inside = set(body.args)
  found = set()
  for line in body.lines:
    found |= uses(line) - inside
    inside |= set(line.outs)
  return found | (set(NAME.findall(body.result)) - inside)


def uses(line):
  """Names that a line takes from before."""
  own = {body.name for body in line.bodies}
  return set(NAME.findall(line.text)) - own | {name for b in line.bodies for name in free(b)}


def rendered(lines, indent='  '):
  """The lines as text."""
  out = []
  for line in lines:
    for body in line.bodies:
      out.append(f'{indent}def {body.name}({", ".join(body.args)}):')
      out += rendered(body.lines, indent + '  ')
      out.append(f'{indent}  return {body.result}')
    left = ', '.join(line.outs) + (',' if line.several and len(line.outs) == 1 else '')
    out.append(f'{indent}{left} = {line.text}')
  return out


def source(program):
  """The function as text."""
  states = ', '.join(f'{name!r}: {new}' for name, new in program.states.items())
  outs = ', '.join(program.outs)
  return '\n'.join(
    [
      f'def fn({", ".join(["p", *program.inputs])}):',
      *(f"  {name} = p['{name}']" for name in program.params),
      *rendered(program.lines),
      f"  return {{'out': [{outs}]" + (f", 'state': {{{states}}}}}" if states else '}'),
    ]
  )


def script(program, kept, mode):
  """A program that fails, to be pasted into a file and run."""
  leaf = lambda name, spec: f'  {name!r}: value({name!r}, {spec!r}),'
  return '\n'.join(
    [
      _HEADER,
      *source(program).split('\n'),
      '',
      'with setting():',
      '  params = {',
      *('  ' + leaf(*each) for each in program.params.items()),
      '  }',
      f'  args = [{", ".join(f"value({n!r}, {s!r})" for n, s in program.inputs.items())}]',
      f'  _check.assert_same(fn, params, args, {kept!r}, {mode!r})',
    ]
  )


# ----------------------------------------------------------------------------------- running


@contextlib.contextmanager
def setting():
  """Float64, and the promotion that users have, in the suite and out of it."""
  with (
    jax.enable_x64(True),
    jax.numpy_dtype_promotion('standard'),
    jax.numpy_rank_promotion('allow'),
    warnings.catch_warnings(),
  ):
    warnings.simplefilter('error')
    yield


def names():
  """What the text of a program may use."""
  return {'jax': jax, 'jnp': jnp, 'np': np, 'lax': lax, 'lib': _library}


def function(program):
  """The program as a function of params and inputs."""
  space = names()
  exec(compile(source(program), '<program>', 'exec'), space)
  return space['fn']


def value(name, leaf):
  """The values of a param or an input: of its name, shape and kind, on any machine."""
  rng = np.random.default_rng([zlib.crc32(name.encode()), *leaf.shape])
  shape, dtype = leaf.shape, np.dtype(jnp.dtype(leaf.dtype))
  if dtype.kind == 'b':
    return rng.random(shape) < 0.6
  if dtype.kind in 'iu':
    low, high = {'small': (0, 4), 'wild': (-9, 12)}.get(leaf.kind, (-3, 7))
    return rng.integers(max(low, 0) if dtype.kind == 'u' else low, high, shape).astype(dtype)
  if dtype.kind == 'c':
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
  x = rng.standard_normal(shape)
  if leaf.kind == 'odd':  # zeros of both signs, whole numbers, repeats, large and tiny
    which = rng.integers(0, 10, shape)
    for k, odd in enumerate((0.0, -0.0, 1.0, -2.0, 30.0, 1e-5)):
      x = np.where(which == k, odd, x)
    if x.size > 1:
      x.flat[rng.integers(x.size)] = 0.0
  elif leaf.kind == 'positive':
    x = np.abs(x) + 0.3
  return np.asarray(0.7 * x if leaf.kind == 'normal' else x).astype(dtype)
