"""Many instances at once: what is claimed, what is left out and what is coupled, in numbers.

All are compiled in two programs, as compiling takes most of the time. What differs there counts
only if it is found again one operation at a time.
"""

import itertools
import traceback
from typing import NamedTuple

import jax
import numpy as np

from tests import xla
from tests.graph.primitives import _instances, _numbers, _places
from tests.graph.primitives._trials import Case, Coupled, Trial, primitives, unlike

_MOST = 12  # instances until one has free units
_QUICK = {'xla_backend_optimization_level': 0, **xla.OLDER_EMITTERS}


class Failure(NamedTuple):
  """What is wrong with a rule, as a short reproduction."""

  name: str
  form: str
  side: str  # of the rule, or 'raises'
  text: str

  def __str__(self):
    return f'{self.name} ({self.form}): {self.side}\n{self.text}'


class Report(NamedTuple):
  """Failures; and by name and form, what never has any units that are free."""

  failures: list[Failure]
  idle: list[tuple[str, str]]


def check(name, count, seed=0, trials=6, smalls=2, moves=3, shared=True):
  """Instances of every form of a primitive.

  Args:
    name: of the primitive.
    count: number of instances of each form.
    seed: of the instances.
    trials: number of statuses and operands that are tried with each.
    smalls: with how many of them, the most telling, the smaller function is evaluated.
    moves: in how many ways units are changed, and how often they trade places.
    shared: whether forms count that are also of a primitive that is named first.

  Returns:
    A report.
  """
  report, cases = Report([], []), []
  for which, make in enumerate(_instances.FORMS[name]):
    names = set(_instances.NAMES[make])
    if _instances.NAMES[make][0] != name and not shared:
      continue
    label = f'form {which} {getattr(make, "__name__", "")}'.rstrip()
    for number in range(max(count, _MOST)):
      rng = np.random.default_rng([seed, number, which, *name.encode()])
      if number >= count and not names:
        break
      made = _made(report, name, make, label, number + which, rng)
      if made is not None:
        names -= primitives(made.closed.jaxpr) if Coupled(made).free else set()
        cases += [(name, made, rng)] if number < count else []
    report.idle.extend((each, label) for each in names)
  _check_cases(report, cases, trials, smalls, moves)
  return report


def _made(report, name, make, label, kind, rng):
  """An instance: as it is, of sums, under ``vmap``, or both."""
  try:
    instance = _instances.random_instance(make, rng, kind % 4 >= 2, kind % 2 == 1)
    case = Case.of(label, instance)
    found = Coupled(case)
  except Exception:
    report.failures.append(Failure(name, label, 'raises', _last_lines()))
    return None
  if found.given_up or found.unsupported:
    what = f'{found.unsupported} {case.closed.jaxpr}'
    report.failures.append(Failure(name, label, 'given up', what))
  return case


def _last_lines():
  return ''.join(traceback.format_exc().splitlines(keepends=True)[-12:])


def _check_cases(report, cases, trials, smalls, moves):
  if not cases:
    return
  tried = [[] for _ in cases]
  for found, (name, case, rng) in zip(tried, cases):
    for _ in range(trials):
      try:
        found.append(Trial(case, rng))
      except Exception:
        report.failures.append(
          Failure(name, case.label, 'raises', f'{case.closed.jaxpr}\n{_last_lines()}')
        )
        break
  kept = [(*case, found) for case, found in zip(cases, tried) if len(found) == trials]
  if not kept:
    return
  full = _compiled(lambda xss: [case.full(xs) for (_, case, _, _), xs in zip(kept, xss)])
  outs = [full([found[t].xs for *_, found in kept]) for t in range(trials)]
  for i, (name, case, _, found) in enumerate(kept):
    for t, trial in enumerate(found):
      if trial.wrong_claim(outs[t][i]):
        _add(report, name, trial, trial.wrong_claim(case.full(trial.xs)))
  _check_small(report, kept, outs, smalls)
  for move in (_perturbed, _permuted):
    for _ in range(moves):
      _check_moves(report, kept, full, move)


def _check_small(report, kept, outs, smalls):
  """The smaller functions, in one program; in which some may raise."""
  chosen = []
  for i, (name, *_, found) in enumerate(kept):
    telling = sorted(range(len(found)), key=lambda t: found[t].telling, reverse=True)
    chosen += [(name, found[t], outs[t][i]) for t in telling[:smalls] if found[t].pruned]
  raised = {}

  def small(xss):
    values = []
    for i, ((_, trial, _), xs) in enumerate(zip(chosen, xss)):
      try:
        values.append(trial.small(xs))
      except Exception:
        raised[i] = _last_lines()
        values.append([])
    return values

  found = _compiled(small)([trial.small_xs() for _, trial, _ in chosen]) if chosen else []
  for i, ((name, trial, whole), values) in enumerate(zip(chosen, found)):
    if i in raised:
      _add(report, name, trial, ('small raises', raised[i]))
    elif trial.wrong_small(whole, values):
      again = trial.small(trial.small_xs())
      _add(report, name, trial, trial.wrong_small(trial.case.full(trial.xs), again))


def _compiled(fn):
  """A function that is compiled, in little time, when it is first called."""
  programs = []

  def call(xs):
    if not programs:
      programs.append(jax.jit(fn).lower(xs).compile(_QUICK))
    return jax.tree.map(np.asarray, programs[0](xs))

  return call


def _add(report, name, trial, wrong):
  if wrong is not None:
    text = f'{trial.case.closed.jaxpr}\n{trial}\n{wrong[1]}'
    report.failures.append(Failure(name, trial.case.label, wrong[0], text))


# ------------------------------------------------------------------------------- what is coupled


def _check_moves(report, kept, full, move):
  """Before and after, for an atom of each instance."""
  before, after, checks = [], [], []
  for _, case, rng, _ in kept:
    coupled = Coupled(case)
    xs = case.values(rng)
    atoms = list(itertools.chain.from_iterable(coupled.free))
    allowed = case.instance.apart if move is _perturbed else case.instance.alike
    if atoms and allowed:
      changed, check = move(rng, coupled, xs, atoms[rng.integers(len(atoms))])
    else:
      changed, check = xs, None
    before.append(xs)
    after.append(changed)
    checks.append((coupled, check))
  first, second = full(before), full(after)
  for (name, case, _, _), (coupled, check), xs, ys, a, b in zip(
    kept, checks, before, after, first, second
  ):
    if check is not None and check(a, b) and (text := check(case.full(xs), case.full(ys))):
      dims = ', '.join(map(coupled.described, coupled.ins))
      outs = ', '.join(map(coupled.described, coupled.outs))
      lines = f'{case.closed.jaxpr}\n{dims} -> {outs}\n{xs}\n{ys}\n{text}'
      report.failures.append(Failure(name, case.label, 'couple', lines))


def _perturbed(rng, coupled, xs, atom):
  """Other numbers at one unit: no entry that lies at others may change."""
  unit = int(rng.integers(atom.size))
  lying = lambda x, dims: _places.lying_on(np.shape(x), dims, {atom: [unit]})
  new = coupled.case.values(rng)
  changed = [np.where(lying(x, d), y, x) for x, y, d in zip(xs, new, coupled.ins)]

  def check(before, after):
    for i, (a, b, dims) in enumerate(zip(before, after, coupled.outs)):
      if any(_has(dim, atom) for dim in dims):
        at = lying(a, dims[: np.ndim(a)]) | _numbers.same(np.asarray(a), np.asarray(b))
        if not at.all() and unlike(np.where(at, 0, a), np.where(at, 0, b)):
          return f'unit {unit} of {coupled.described([(atom,)])} changes others of result {i}'
    return None

  return changed, check


def _permuted(rng, coupled, xs, atom):
  """Units that trade places do so in the results."""
  order = rng.permutation(atom.size)
  move = lambda x, dims: _places.moved(np.asarray(x), dims, atom, order)
  changed = [move(x, dims) for x, dims in zip(xs, coupled.ins)]

  def check(before, after):
    for i, (a, b, dims) in enumerate(zip(before, after, coupled.outs)):
      if difference := unlike(np.asarray(b), move(a, dims)):
        return f'order {order} of {coupled.described([(atom,)])}, result {i}: {difference}'
    return None

  return changed, check


def _has(dim, atom):
  return any(a is atom for each in _places.addresses(dim) for a, _ in each)
