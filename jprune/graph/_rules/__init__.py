"""All that is known of a primitive, one rule each: what it does with axes, zeros, NaN and sizes.

A primitive that moves entries is one function that returns a :class:`layout.Layout`. Importing the
modules enters their rules.
"""
