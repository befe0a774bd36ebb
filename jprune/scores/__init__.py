"""Params (and data) to the importance of every weight: higher = keep."""

from jprune.scores._geometric_median import geometric_median as geometric_median
from jprune.scores._lamp import lamp as lamp
from jprune.scores._magnitude import magnitude as magnitude
from jprune.scores._random import random as random
from jprune.scores._taylor import taylor as taylor
