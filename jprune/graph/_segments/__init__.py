"""Parts of a traced function as functions of their own, so that it can be run piece by piece.

:mod:`operations` is what a step of a program does, :mod:`program` lays a whole function out as one
list of them, and :mod:`segment` cuts pieces from that list.
"""
