"""The axis algebra: what every dimension is made of. No JAX in here.

:mod:`atoms` says what a dimension is, :mod:`unify` makes two of them one, :mod:`sizes` says what is
left of them once units go, :mod:`units` where the units of a group lie. The words are explained in
the glossary of ``docs/guides/axis_algebra.md``.
"""
