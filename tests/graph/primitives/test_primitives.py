"""Every rule by itself, against numbers."""

import jax
import pytest

from jprune.graph._rules.base import RULES
from tests.graph.primitives import _forms, _machine

pytestmark = pytest.mark.usefixtures('all_passes')

# Why there is no form of a rule whose primitive is there.
UNREACHED = {
  'pvary': 'it stands in shard_map only, which has no rule',
}

# Why nothing can be pruned of these forms.
FROZEN = {
  ('bitcast_convert_type', 'form 1 _bitcast_width'): 'one entry becomes several, or several one',
}

# How many instances there are of each form, where it isn't 2, or 4 in all.
COUNTS = {
  **dict.fromkeys(('igamma', 'igammac', 'zeta', 'polygamma', 'regularized_incomplete_beta'), 1),
  **dict.fromkeys(('reduce_sum', 'reduce_prod', 'dot_general'), 6),  # so that there are ghosts
  **dict.fromkeys(('dynamic_slice', 'conv_general_dilated', 'reshape'), 8),
}


@pytest.fixture(autouse=True)
def _in_float64():
  with jax.enable_x64(True):
    yield


@pytest.mark.parametrize('name', [name for name in _forms.FORMS if name in _forms.KNOWN])
def test_in_numbers(name):
  count = COUNTS.get(name) or max(2, 4 // len(_forms.FORMS[name]))
  report = _machine.check(name, count, trials=4, smalls=1, moves=1, shared=False)
  assert not report.failures, '\n\n'.join(map(str, report.failures))
  assert not [each for each in report.idle if each[0] in _forms.KNOWN and each not in FROZEN]


def test_every_rule_has_a_form():
  assert _forms.KNOWN & RULES.keys() - _forms.FORMS.keys() <= UNREACHED.keys()
  assert _forms.FORMS.keys() <= RULES.keys()
