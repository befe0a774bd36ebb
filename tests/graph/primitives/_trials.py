"""One instance, coupled and checked as in a model, with operands that obey what is assumed."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jprune.graph._analysis.coupling import Coupling
from jprune.graph._analysis.pruned_values import Exactness
from jprune.graph._axes.atoms import fresh_all, leaves, resolve
from jprune.graph._program.frame import Frame, without_dead
from jprune.graph._shrunk.evaluate import Small
from tests.graph.primitives import _numbers


class Case(NamedTuple):
  """An instance and its jaxpr."""

  label: str
  instance: Any
  closed: Any

  @classmethod
  def of(cls, label, instance):
    structs = [operand.struct for operand in instance.operands]
    return cls(label, instance, jax.make_jaxpr(instance.fn)(*structs))

  def full(self, xs):
    """The results, as arrays that NumPy knows."""
    return [plain(x) for x in core.jaxpr_as_fun(self.closed)(*xs)]

  def values(self, rng):
    """Operands of which nothing is assumed."""
    return [_numbers.anything(rng, o.shape, o.dtype, o.low, o.high) for o in self.instance.operands]


def plain(x):
  """Random keys as the numbers that they are."""
  return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def primitives(jaxpr):
  """Names of all primitives in a jaxpr, down into what is called."""
  names = set()
  for eqn in jaxpr.eqns:
    names.add(eqn.primitive.name)
    for value in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr):
      if _is_jaxpr(value):
        names |= primitives(getattr(value, 'jaxpr', value))
  return names


def _is_jaxpr(value):
  return isinstance(value, (core.Jaxpr, core.ClosedJaxpr))


class Coupled:
  """An instance whose axes are coupled.

  Attributes:
    case: the instance.
    frame: of its jaxpr.
    ins: dimensions of the operands.
    outs: dimensions of the results.
    free: the atoms that may be pruned, as lists of those of one family.
    unknown: what no rule covers.
  """

  def __init__(self, case):
    self.case = case
    self.frame = Frame(without_dead(case.closed.jaxpr), case.closed.consts)
    self.ins = [fresh_all(operand.shape) for operand in case.instance.operands]
    coupling = Coupling()
    self.outs = coupling.couple(self.frame, self.ins)
    self.unsupported = coupling.unsupported
    self.given_up = any(frame.given_up for frame in _frames(self.frame))

  @property
  def free(self):
    dims = itertools.chain.from_iterable((*self.ins, *self.outs))
    families = {}
    for atom in dict.fromkeys(atom for dim in dims for atom in leaves(dim)):
      if atom.frozen is None and atom.size:
        families.setdefault(atom if atom.family is None else atom.family.root(), []).append(atom)
    return list(families.values())

  def described(self, dims):
    """Dimensions in letters, frozen ones in numbers."""
    letters = {a: chr(97 + i) for i, a in enumerate(itertools.chain.from_iterable(self.free))}

    def name(atom):
      if atom.segments is not None:
        return '(' + ' + '.join(named(part) for part in atom.segments) + ')'
      return f'{letters[atom]}={atom.size}' if atom in letters else str(atom.size)

    named = lambda dim: '·'.join(map(name, resolve(dim))) or '1'
    return '[' + ', '.join(map(named, dims)) + ']'


def _in(dims, atoms):
  """Those that are in dimensions."""
  return list(dict.fromkeys(a for dim in dims for a in leaves(dim) if a in atoms))


def _frames(frame):
  yield frame
  for roles in frame.children.values():
    for child in roles.values():
      yield from _frames(child)


class Trial(Coupled):
  """Statuses of the operands, units that are pruned, and operands that obey.

  Attributes:
    assumed: statuses of the operands.
    claimed: statuses of the results.
    pruned: for each atom that loses some, which units.
    xs: the operands.
  """

  def __init__(self, case, rng):
    super().__init__(case)
    atoms = list(itertools.chain.from_iterable(self.free))
    self.assumed = [
      _numbers.assumed(rng, operand, _in(dims, atoms))
      for operand, dims in zip(case.instance.operands, self.ins)
    ]
    self.claimed = Exactness(atoms).run(self.frame, self.assumed)
    self.pruned = _pruned(rng, self.free)
    self.xs = [
      _numbers.obeying(rng, x, dims, status, self.pruned)
      for x, dims, status in zip(case.values(rng), self.ins, self.assumed)
    ]
    for x, dims, status in zip(self.xs, self.ins, self.assumed):
      assert _numbers.violation(x, dims, status, self.pruned) is None

  @property
  def telling(self):
    """How many ghosts there are, atoms that lose units and are summed over, and that lose any."""
    left = {atom for dims in self.outs for dim in dims for atom in leaves(dim)}
    ghosts = {a for frame in _frames(self.frame) for each in frame.ghosts.values() for a in each}
    return len(self.pruned.keys() & ghosts), len(self.pruned.keys() - left), len(self.pruned)

  @property
  def walk(self):
    """Evaluates what is left."""
    keeps = {}
    for atom, gone in self.pruned.items():
      keeps[atom] = np.ones(atom.size, bool)
      keeps[atom][gone] = False
    return Small(keeps)

  def small_xs(self):
    """What is left of the operands."""
    return [np.asarray(self.walk.take(x, dims)) for x, dims in zip(self.xs, self.ins)]

  def small(self, xs):
    """What the smaller function makes of them."""
    return [plain(x) for x in self.walk(self.frame, [jnp.asarray(x) for x in xs])]

  def wrong_claim(self, outs):
    """What the results do not hold: ``(side, text)``, or ``None``."""
    for i, (x, dims, status) in enumerate(zip(outs, self.outs, self.claimed)):
      found = _numbers.violation(x, dims, status, self.pruned)
      if found is not None:
        return found[0], f'result {i} {found[1]}'
    return None

  def wrong_small(self, outs, found):
    """Where the smaller results are no slices of the full ones."""
    for i, (whole, dims, x) in enumerate(zip(outs, self.outs, found)):
      expected = np.asarray(self.walk.take(np.asarray(whole), dims))
      x = np.asarray(x)
      if x.shape == expected.shape:
        x = np.where(_numbers.unclaimed(expected, self.claimed[i]), expected, x)
      difference = unlike(x, expected)
      if difference:
        return 'small', f'result {i}: {difference}'
    return None

  def __str__(self):
    gone = [
      f'{list(map(int, gone))} of {self.described([(a,)])}' for a, gone in self.pruned.items()
    ]
    lines = [f'pruned: {", ".join(gone)}']
    for x, operand, dims, status in zip(
      self.xs, self.case.instance.operands, self.ins, self.assumed
    ):
      lines.append(f'in {operand.dtype} {self._said(dims, status)}')
      lines.append('   ' + np.array2string(x, max_line_width=200).replace('\n', '\n   '))
    lines += [f'out {self._said(*each)}' for each in zip(self.outs, self.claimed)]
    return '\n'.join(lines)

  def _said(self, dims, status):
    each = [
      f'{self.described([(atom,)])} {_numbers.named(status, atom)}'
      for atom in dict.fromkeys(a for dim in dims for a in leaves(dim))
      if atom.frozen is None
    ]
    return ', '.join([self.described(dims), *each, f'else {_numbers.named(status, None)}'])


def _pruned(rng, families):
  """Units of one, of two or of all atoms (or families of single indices); some of them stay."""
  if not families:
    return {}
  most = rng.choice([1, 2, len(families)])
  chosen = rng.permutation(len(families))[:most]
  out = {}
  for i in sorted(chosen):
    atoms = families[i]
    if len(atoms) == 1:
      out[atoms[0]] = _some(rng, atoms[0].size)
    else:
      out |= {atoms[k]: np.array([0]) for k in _some(rng, len(atoms))}
  return {atom: gone for atom, gone in out.items() if len(gone)}


def _some(rng, size):
  """One unit, all but one, a few or, seldom, all of them."""
  if size == 1:
    return np.arange(int(rng.random() < 0.5))
  count = int(rng.choice([1, size - 1, rng.integers(1, size), size], p=[0.4, 0.3, 0.25, 0.05]))
  return np.sort(rng.permutation(size)[:count])


def unlike(found, expected):
  """How an array differs from the one that it should be; ``None`` if it doesn't."""
  if found.shape != expected.shape or found.dtype != expected.dtype:
    return f'{found.dtype}{found.shape} instead of {expected.dtype}{expected.shape}'
  if not jnp.issubdtype(found.dtype, np.inexact):
    alike = np.array_equal(found, expected)
  else:
    wide = np.complex128 if jnp.issubdtype(found.dtype, np.complexfloating) else np.float64
    slack = 1e3 * float(jnp.finfo(found.dtype).eps)
    a, b = found.astype(wide), expected.astype(wide)
    finite = np.abs(b[np.isfinite(b)])
    scale = max(1.0, finite.max(initial=0.0))
    with np.errstate(invalid='ignore'):
      near = lambda a, b: _numbers.same(a, b) | (np.abs(a - b) <= slack * scale)
      # By parts, as of a number with an infinite one the other may be rounded as well.
      alike = (_numbers.same(a, b) | (near(a.real, b.real) & near(a.imag, b.imag))).all()
  return None if alike else f'{_short(found)} instead of {_short(expected)}'


def _short(x):
  return np.array2string(x.reshape(-1)[:12], separator=', ', max_line_width=200)
