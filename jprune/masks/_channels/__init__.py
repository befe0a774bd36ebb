"""Masks of whole channels: the units of channel groups, scored over all of their members."""
