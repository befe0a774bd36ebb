"""Thresholds chosen on validation data: what each leaf can bear, and what that allows.

- all five steps: ``run`` gives a ``Result``
- one by one: ``curves`` gives a ``Sensitivity``, ``allocate`` an ``Allocation``, ``search`` a
  ``Search``, ``accuracy_threshold`` a number
"""

from jprune.sensitivity._accuracy_threshold import accuracy_threshold as accuracy_threshold
from jprune.sensitivity._allocate import allocate as allocate
from jprune.sensitivity._allocation import Allocation as Allocation
from jprune.sensitivity._allocation import Share as Share
from jprune.sensitivity._curves import curves as curves
from jprune.sensitivity._result import Result as Result
from jprune.sensitivity._result import Step as Step
from jprune.sensitivity._run import run as run
from jprune.sensitivity._search import Search as Search
from jprune.sensitivity._search import Trial as Trial
from jprune.sensitivity._search import search as search
from jprune.sensitivity._sensitivity import Curve as Curve
from jprune.sensitivity._sensitivity import Sensitivity as Sensitivity

__all__ = [
  'Allocation',
  'Curve',
  'Result',
  'Search',
  'Sensitivity',
  'Share',
  'Step',
  'Trial',
  'accuracy_threshold',
  'allocate',
  'curves',
  'run',
  'search',
]
