"""A program of a seed and a number."""

import numpy as np

from tests.programs import _check, _ends, _modes
from tests.programs._fields import Refused
from tests.programs._generate import Generator
from tests.programs._program import source
from tests.programs._tables import TABLES

_RULES = ('lib.with_jvp', 'lib.own', 'lib.mixed', 'lib.scaled')


def random(seed, index):
  """The program, how it is compared, what is pruned, and how often entries were tried and made."""
  rng, made = np.random.default_rng([seed, index]), None
  while made is None:
    g = Generator(rng, TABLES)
    try:
      made = g.program(_ends.STEMS, _ends.end, int(rng.integers(2, 9)))
    except Refused:
      continue
  text = source(made)
  modes = _modes.MODES_OF_RULES if any(name in text for name in _RULES) else _modes.MODES
  mode = g.choice(list(modes), list(modes.values()))
  return made, mode, g.choice(_check.CHOICES), g.made
