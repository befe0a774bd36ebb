"""Programs of fixed seeds: shrunk they compute what they compute masked."""

import collections
import dataclasses

import pytest

from jprune.graph._axes.pruned import ZERO, Status
from jprune.graph._rules import base
from tests.programs import _check, _program, _random, _reduce

SEED, COUNT, EACH = 5, 200, 20


@pytest.fixture(autouse=True)
def _as_users_have_it():
  with _program.setting():
    yield


@pytest.mark.parametrize('first', range(0, COUNT, EACH))
def test_shrunk_is_masked(first):
  kinds = collections.Counter()
  for index in range(first, first + EACH):
    program, mode, choice, _ = _random.random(SEED, index)
    outcome = _check.check(program, mode, choice, index)
    kinds[outcome.kind] += 1
    if outcome.failed:
      program, outcome, mode = _reduce.reduced(program, mode, outcome, choice, index)
      pytest.fail(f'{outcome.detail}\n{_program.script(program, outcome.kept, mode)}')
  # Most of them say something: they have channels, finite values and derivatives.
  assert kinds['agrees'] >= 0.5 * EACH, kinds
  assert kinds['not finite'] + kinds['ill-conditioned'] + kinds['no program'] <= 0.2 * EACH, kinds


def test_a_program_is_of_its_seed():
  assert _random.random(1, 2) == _random.random(1, 2)
  assert _random.random(1, 2)[0] != _random.random(1, 3)[0]


def wrong_status(site, ins):
  return [Status(ZERO, dict.fromkeys(site.prunable(v), ZERO)) for v in site.eqn.outvars]


@pytest.mark.parametrize(
  ('primitive', 'text'),
  [('exp', 'jnp.exp({v}).sum(-1)'), ('cos', 'jnp.cos({v}) @ jnp.ones((4, 2))')],
)
def test_a_wrong_rule_is_found_and_the_program_reduced(monkeypatch, primitive, text):
  """What the tests above would say, were a rule wrong."""
  made = _program.Line(('v9',), text.format(v='v8'))
  lines = (
    _program.Line(('v6',), 'x0 @ w1'),
    _program.Line(('v7',), 'jnp.tanh(v6)'),
    _program.Line(('v8',), 'v7 + jnp.sin(v7)'),
    made,
  )
  leaves = {'w1': _program.Leaf((3, 4))}
  program = _program.Program(leaves, {'x0': _program.Leaf((2, 3))}, lines, ('v9', 'v7'))
  assert not _check.check(program, 'values', 'half').failed
  monkeypatch.setitem(
    base.RULES, primitive, dataclasses.replace(base.RULES[primitive], status=wrong_status)
  )
  program = program._replace(outs=('v9',))
  outcome = _check.check(program, 'values', 'half')
  assert outcome.kind == 'differs'
  small, outcome, _ = _reduce.reduced(program, 'values', outcome, 'half', 0)
  assert outcome.kind == 'differs'
  assert small.lines == (made,)
