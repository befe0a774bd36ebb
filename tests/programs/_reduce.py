"""A program that fails to a few lines that still fail."""

import re
import time

import jax

from tests.programs import _check
from tests.programs._generate import needed
from tests.programs._program import NAME, Leaf, Line, Program, function, names, source, uses, value


def reduced(program, mode, outcome, choice, seed, seconds=60.0):
  """The smallest program found in this time, what came of it, and its mode."""
  stop = time.monotonic() + seconds
  label = _label(outcome)

  def fails(candidate, mode, kept=None):
    if time.monotonic() > stop:
      return None
    found = _check.check(candidate, mode, choice, seed, kept)
    return found if _label(found) == label else None

  program = tidied(program)
  best = fails(program, mode)
  if best is None:
    return program, outcome, mode
  if mode != 'values' and (found := fails(program, 'values')):
    mode, best = 'values', found
  moved = True
  while moved and time.monotonic() < stop:
    moved = False
    for candidate in candidates(program):
      if size(candidate) < size(program) and (found := fails(candidate, mode)):
        program, best, moved = candidate, found, True
        break
  for kept in _fewer(best.kept):
    if found := fails(program, mode, kept):
      best = found
      break
  return program, best, mode


def _label(outcome):
  """What must stay the same: of errors the first words too."""
  words = re.sub(r'[\d\s()\[\],]+', ' ', outcome.detail)[:40]
  return outcome.kind, words if outcome.kind.startswith('raises') else ''


def size(program):
  """What has to become smaller."""
  return (
    len('\n'.join(source(program).split('\n')[1 + len(program.params) :]))
    + 3 * len(program.params)
    + 3 * len(program.inputs)
    + 10 * len(program.states)
  )


def _fewer(kept):
  for i, keep in enumerate(kept or ()):
    if not all(keep):
      yield [list(k) if i == j else [True] * len(k) for j, k in enumerate(kept)]


def tidied(program):
  """Without what nothing uses."""
  lines = needed(
    [_tidied_line(line) for line in program.lines], [*program.outs, *program.states.values()]
  )
  used = {n for line in lines for n in uses(line)} | set(program.outs) | set(program.states)
  return program._replace(
    params={n: leaf for n, leaf in program.params.items() if n in used},
    inputs={n: leaf for n, leaf in program.inputs.items() if n in used},
    lines=lines,
  )


def _tidied_line(line):
  return line._replace(bodies=tuple(_tidied_body(body) for body in line.bodies))


def _tidied_body(body):
  lines = [_tidied_line(line) for line in body.lines]
  return body._replace(lines=needed(lines, NAME.findall(body.result)))


def candidates(program):
  """Programs that do less."""
  if len(program.outs) + len(program.states) > 1:
    for out in program.outs:
      yield tidied(program._replace(outs=(out,), states={}))
    for i in range(len(program.outs)):
      yield tidied(program._replace(outs=program.outs[:i] + program.outs[i + 1 :]))
    for name in program.states:
      rest = {k: v for k, v in program.states.items() if k != name}
      yield tidied(program._replace(states=rest))
    for out in program.outs:
      yield tidied(program._replace(outs=(out,)))
  structs = _structs(program)
  for i, line in reversed(list(enumerate(program.lines))):
    yield from _without(program, i, line, structs)
  for i, line in enumerate(program.lines):
    yield from (
      tidied(program._replace(lines=(*program.lines[:i], new, *program.lines[i + 1 :])))
      for new in _smaller_line(line)
    )


def _structs(program):
  """Shape and dtype of every value outside of bodies."""
  all_ = [name for line in program.lines for name in line.outs]
  space = names()
  exec(
    source(program._replace(outs=(), states={})).replace("{'out': []}", f'[{", ".join(all_)}]'),
    space,
  )
  leaves = {**program.params, **program.inputs}
  params = {name: value(name, leaf) for name, leaf in program.params.items()}
  args = [value(name, leaf) for name, leaf in program.inputs.items()]
  found = dict(zip(all_, jax.eval_shape(space['fn'], params, *args)))
  for name, leaf in leaves.items():
    found[name] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
  return found


def _without(program, i, line, structs):
  rest = (*program.lines[:i], *program.lines[i + 1 :])
  plain = [n for n in line.outs if not jax.dtypes.issubdtype(structs[n].dtype, jax.dtypes.extended)]
  if len(plain) == len(line.outs):
    leaves = {n: Leaf(structs[n].shape, str(structs[n].dtype)) for n in plain}
    yield tidied(program._replace(lines=rest, inputs={**program.inputs, **leaves}))
    yield tidied(program._replace(lines=rest, params={**program.params, **leaves}))
  before = [*program.params, *program.inputs, *(n for each in program.lines[:i] for n in each.outs)]
  same = lambda a, b: structs[a].shape == structs[b].shape and structs[a].dtype == structs[b].dtype
  for out in line.outs:
    near = [n for n in before if same(n, out)]
    near.sort(key=lambda n: n not in uses(line))
    for other in near[:3]:
      yield tidied(_renamed(program, {out: other}))


def _renamed(program, new):
  swap = lambda text: NAME.sub(lambda m: new.get(m[0], m[0]), text)

  def in_line(line):
    return line._replace(text=swap(line.text), bodies=tuple(map(in_body, line.bodies)))

  def in_body(body):
    return body._replace(lines=tuple(map(in_line, body.lines)), result=swap(body.result))

  return Program(
    program.params,
    program.inputs,
    tuple(map(in_line, program.lines)),
    tuple(swap(out) for out in program.outs),
    {name: swap(out) for name, out in program.states.items()},
  )


def _smaller_line(line):
  """The same call with simpler bodies."""
  for k, body in enumerate(line.bodies):
    for new in _smaller_body(body):
      yield line._replace(bodies=(*line.bodies[:k], new, *line.bodies[k + 1 :]))


def _smaller_body(body):
  for i, line in reversed(list(enumerate(body.lines))):
    before = [*(n for each in body.lines[:i] for n in each.outs), *body.args][::-1]
    before += sorted(uses(line) - set(before))
    for out in line.outs:
      for other in before[:5]:
        lines = (*body.lines[:i], *body.lines[i + 1 :])
        yield _renamed_body(body._replace(lines=lines), {out: other})
    for new in _smaller_line(line):
      yield body._replace(lines=(*body.lines[:i], new, *body.lines[i + 1 :]))


def _renamed_body(body, new):
  line = Line((), '', (body,))
  program = _renamed(Program({}, {}, (line,), ()), new)
  return _tidied_body(program.lines[0].bodies[0])


def primitives(program):
  """Names of all primitives: by them failures are told apart."""
  found = set()

  def walk(jaxpr):
    for eqn in jaxpr.eqns:
      found.add(eqn.primitive.name)
      for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, 'eqns')):
        if hasattr(inner, 'eqns'):
          walk(inner)

  params = {name: value(name, leaf) for name, leaf in program.params.items()}
  args = [value(name, leaf) for name, leaf in program.inputs.items()]
  walk(jax.make_jaxpr(function(program))(params, *args).jaxpr)
  return frozenset(found - {'jit'})
