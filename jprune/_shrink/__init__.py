"""Masks to a smaller function and smaller params."""

from jprune._shrink.plan import Plan as Plan
from jprune._shrink.shrink import Shrunk as Shrunk
from jprune._shrink.shrink import shrink as shrink
