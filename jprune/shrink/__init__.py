"""Masks to a smaller function and smaller params."""

from jprune.shrink._plan import Plan as Plan
from jprune.shrink._shrink import Shrunk as Shrunk
from jprune.shrink._shrink import shrink as shrink
