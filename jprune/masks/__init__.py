"""Scores and a sparsity to masks; what masks do to params."""

from jprune.masks._apply import apply as apply
from jprune.masks._apply import combine as combine
from jprune.masks._apply import invert as invert
from jprune.masks._apply import straight_through as straight_through
from jprune.masks._pack import PackedMask as PackedMask
from jprune.masks._pack import pack as pack
from jprune.masks._pack import unpack as unpack
