"""Random programs: a stem that makes channels, lines drawn from tables, and results."""

import jax
import numpy as np

from tests.programs._fields import CHANNELS, FIELD, Fields, Refused
from tests.programs._program import NAME, Body, Leaf, Line, Program, free, names, rendered, uses

_MOST = 400  # entries of a value


class Generator:
  """Draws lines, one after the other, and keeps the shapes of all values."""

  def __init__(self, rng, tables):
    self.rng = rng
    self.tables = tables
    self.structs = {}
    self.params = {}
    self.inputs = {}
    self.states = {}
    self.scopes = [[]]
    self.lines = []
    self.used = set()
    self.depth = 0
    self.count = 0
    self.made = {}  # how often each entry of the tables was tried, and made

  # ---------------------------------------------------------------------------------- drawing

  def chance(self, share):
    return self.rng.random() < share

  def choice(self, values, weights=None):
    values = list(values)
    if not values:
      raise Refused
    if weights is None:
      return values[self.rng.integers(len(values))]
    weights = np.asarray(weights, float)
    return values[self.rng.choice(len(values), p=weights / weights.sum())]

  def new(self, letter):
    self.count += 1
    return f'{letter}{self.count - 1}'

  def channels(self):
    return int(self.choice(CHANNELS, (4, 3, 2, 1, 0.5)))

  # ----------------------------------------------------------------------------------- values

  def visible(self):
    return [name for scope in self.scopes for name in scope]

  def shape(self, name):
    return self.structs[name].shape

  def dtype(self, name):
    return self.structs[name].dtype

  def kind(self, name):
    dtype = self.structs[name].dtype
    if jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
      return 'key'
    return 'f' if jax.numpy.issubdtype(dtype, np.floating) else dtype.kind

  def pick(self, kinds='f', rank=0, fits=None, most=5):
    """A visible value; rather late ones, and such as nothing has used yet."""
    found = [
      name
      for name in self.visible()
      if self.kind(name) in kinds
      and rank <= len(self.shape(name)) <= most
      and (0 not in self.shape(name) or self.chance(0.3))
      and (fits is None or fits(self.shape(name)))
    ]
    near = set(self.scopes[-1]) if self.depth else ()
    weights = [
      (1.0 if name in self.used else 4.0)
      * (0.15 if name[0] == 'w' else 1)
      * (4 if name in near else 1)
      / (2 + age)
      for age, name in enumerate(reversed(found))
    ]
    return self.choice(found, weights[::-1]) if found else self.choice([])

  def param(self, shape, dtype='float64', kind='normal'):
    """A param, new or already there, perhaps in another form."""
    shape = tuple(int(n) for n in shape)
    if int(np.prod(shape)) > _MOST or len(shape) > 5:
      raise Refused
    same = [n for n, leaf in self.params.items() if leaf == Leaf(shape, dtype, kind)]
    if same and self.chance(0.35):
      return self.choice(same)
    if dtype == 'float64' and self.depth == 0 and shape and self.chance(0.25):
      formed = self._formed(shape)
      if formed:
        return formed
    name = self.new('w')
    self.params[name] = Leaf(shape, dtype, kind)
    self.structs[name] = jax.ShapeDtypeStruct(shape, dtype)
    self.scopes[0].append(name)
    return name

  def _formed(self, shape):
    """A param of this shape made from others."""
    texts = []
    for name, leaf in self.params.items():
      have = leaf.shape
      if leaf.dtype != 'float64' or 0 in have or not have:
        continue
      if have == shape[::-1] and len(shape) > 1:
        texts.append(f'{name}.T')
      if have == shape:
        texts += [f'-{name}', f'jnp.tanh({name})', f'{name}[::-1]', f'0.5 * {name} + 0.1']
        texts.append(f'jnp.roll({name}, 1, -1)')
        texts.append(f'{name} * lax.rsqrt(jnp.square({name}).sum(0, keepdims=True) + 0.1)')
      if np.prod(have) == np.prod(shape) and have != shape:
        texts.append(f'{name}.reshape({shape})')
      if len(have) == len(shape) and all(a >= b for a, b in zip(have, shape)) and have != shape:
        texts.append(
          f'{name}[{", ".join(f":{b}" if a != b else ":" for a, b in zip(have, shape))}]'
        )
      if have[1:] == shape:
        texts += [f'{name}[0]', f'{name}.sum(0)', f'{name}[-1]']
      if len(have) == len(shape) and have[1:] == shape[1:] and 2 * have[0] == shape[0]:
        texts += [f'jnp.concatenate([{name}, -{name}])', f'jnp.repeat({name}, 2, 0)']
        texts.append(f'jnp.tile({name}, (2,' + ' 1,' * (len(shape) - 1) + '))')
      if (1, *have) == shape or have == shape[1:]:
        texts.append(f'jnp.broadcast_to({name}, {shape})')
    if not texts:
      return None
    return self.emit(self.choice(texts))[0]

  def input(self, shape, dtype='float64', kind='normal'):
    name = self.new('x')
    self.inputs[name] = Leaf(tuple(shape), dtype, kind)
    self.structs[name] = jax.ShapeDtypeStruct(tuple(shape), dtype)
    self.scopes[0].append(name)
    return name

  # ------------------------------------------------------------------------------------ lines

  def emit(self, text, bodies=()):
    """Adds a line, if it is a valid call; returns the names of its results."""
    line = Line((), text, tuple(bodies))
    operands = sorted(set(NAME.findall(text)) | _free_names(bodies))
    operands = [name for name in operands if name in self.structs]
    if not any(name[0] != 'f' for name in operands):
      raise Refused
    structs = self._shapes_of(line, operands)
    several = isinstance(structs, (tuple, list))
    flat = list(structs) if several else [structs]
    for each in flat:
      shape = getattr(each, 'shape', None)
      if shape is None or int(np.prod(shape)) > _MOST or len(shape) > 5:
        raise Refused
    outs = tuple(self.new('v') for _ in flat)
    self.structs.update(zip(outs, flat))
    self.scopes[-1] += outs
    self.used.update(operands)
    self.lines.append(Line(outs, text, tuple(bodies), several))
    return outs

  def _shapes_of(self, line, operands):
    head = ', '.join(operands)
    body = '\n'.join(rendered([line._replace(outs=('out',))]))
    space = names()
    exec(compile(f'def step({head}):\n{body}\n  return out', '<line>', 'exec'), space)
    try:
      return jax.eval_shape(space['step'], *(self.structs[name] for name in operands))
    except Exception as error:  # whatever the call doesn't allow; a share of all drawn lines
      raise Refused from error

  def fill(self, template):
    """The template with values and sizes in place of its fields."""
    seen = Fields(self)
    found = FIELD.findall(template)
    values = [each for each in found if each[0] == 'x'] or [
      e for e in found if e[0] in ('i', 'z', 'b')
    ]
    for each in [*sorted(values, key=lambda e: not e[2])[:1], *(e for e in found if e[0] == 'ax')]:
      seen(*each)
    return FIELD.sub(lambda m: seen(m[1], m[2], m[3] or ''), template)

  def step(self, table):
    """One line of an entry of a table: a template, or a function of the generator."""
    name = self.choice(table, [entry.weight for entry in table.values()])
    tried = self.made.setdefault(name, [0, 0])
    tried[0] += 1
    kept = len(self.lines), [len(scope) for scope in self.scopes]
    entry = table[name].entry
    try:
      found = self.emit(self.fill(entry)) if isinstance(entry, str) else entry(self)
    except Refused:
      self._back(kept)
      return None
    tried[1] += 1
    return found

  def _back(self, kept):
    """Forgets what a refused entry had made before it was."""
    count, sizes = kept
    del self.lines[count:]
    for scope, size in zip(self.scopes, sizes):
      scope[size:] = [name for name in scope[size:] if name[0] in 'wx']
    del self.scopes[len(sizes) :]

  # ----------------------------------------------------------------------------------- bodies

  def body(self, args, steps, table, wanted=None, closed=False):
    """A function of arguments of these shapes.

    Args:
      args: shape structs.
      steps: how many lines.
      table: of the entries.
      wanted: shape structs of its results; ``None``: its last value.
      closed: whether it may use nothing from outside.
    """
    names = [self.new('a') for _ in args]
    self.structs.update(zip(names, args))
    outside, lines = self.scopes, self.lines
    self.scopes = [*([] if closed else outside), list(names)]
    if closed:
      self.scopes = [list(outside[0][:0]), list(names)]
    self.lines, self.depth = [], self.depth + 1
    try:
      for _ in range(steps):
        self.step(table)
      if wanted is None:
        result = self.scopes[-1][-1]
        self.used.add(result)
      else:
        found = [self._like(struct) for struct in wanted]
        result = ', '.join(found) + (',' if len(found) == 1 else '')
        result = f'({result})'
      made = tuple(self.lines)
    finally:
      self.scopes, self.lines, self.depth = outside, lines, self.depth - 1
    return Body(self.new('f'), tuple(names), made, result)

  def _like(self, struct):
    """A value of the innermost scope of this shape and dtype, by force."""
    scope = self.scopes[-1]
    same = [n for n in scope if self.shape(n) == struct.shape and self.dtype(n) == struct.dtype]
    if same and self.chance(0.85):
      late = np.arange(1, len(same) + 1) ** 2.0
      return self.choice(same, late)
    name = self.choice(scope[-3:])
    cast = f'.astype(jnp.{struct.dtype})' if self.dtype(name) != struct.dtype else ''
    name = f'jnp.real({name})' if self.kind(name) == 'c' else name
    if np.prod(self.shape(NAME.findall(name)[0])) == np.prod(struct.shape) and self.chance(0.5):
      text = f'{name}.reshape({struct.shape}){cast}'
    else:
      text = f'jnp.broadcast_to({name}.sum(){cast}, {struct.shape})'
    return self.emit(text)[0]

  # --------------------------------------------------------------------------------- programs

  def program(self, stems, end, size):
    """Stem, lines, ends."""
    self.choice(stems)(self)
    for _ in range(size):
      for _ in range(8):
        table = self.choice((self.tables.main, self.tables.hard), (0.8, 0.2))
        if self.step(table) is not None:
          break
    outs = []
    unused = [n for n in self.visible() if n[0] == 'v' and n not in self.used]
    for name in unused[-3:] or self.visible()[-1:]:
      outs.append(end(self, name))
    lines = needed(self.lines, [*outs, *self.states.values()])
    used = {name for line in lines for name in uses(line)} | set(outs) | set(self.states)
    params = {name: leaf for name, leaf in self.params.items() if name in used}
    inputs = {name: leaf for name, leaf in self.inputs.items() if name in used}
    return Program(params, inputs, lines, tuple(outs), dict(self.states))


def needed(lines, outs):
  """The lines without those whose results nothing uses."""
  wanted, kept = set(outs), []
  for line in reversed(lines):
    if wanted & set(line.outs):
      kept.append(line)
      wanted |= uses(line)
  return tuple(reversed(kept))


def _free_names(bodies):
  return {name for body in bodies for name in free(body)}
