"""Params (and data) to the importance of every weight: higher = keep."""

from jprune.scores._lamp import lamp as lamp
from jprune.scores._magnitude import magnitude as magnitude
from jprune.scores._random import random as random
