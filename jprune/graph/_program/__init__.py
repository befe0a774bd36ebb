"""A traced function, and how it is read: frames, calls, constants, source lines, one traversal.

Nothing in here knows what a primitive does with axes; :mod:`traits` holds what the rules say of
primitives besides, so that whoever reads a program can ask.
"""
