"""What follows for a whole function: :mod:`traced` couples it and checks it, others ask.

The passes, in order: trace, drop what is dead, copy constants, couple, check. Each of the others is
one walk: where values come from, what they depend on, which are equal, what masks become.
"""
