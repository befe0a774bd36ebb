"""The axis algebra: what every dimension is made of. No JAX in here.

:mod:`atoms` says what a dimension is, :mod:`unify` makes two of them one, :mod:`sizes` says what is
left of them once units go, :mod:`units` where the units of a group lie. :mod:`layout` says as data
how axes are made of others, :mod:`coupled` what that means for atoms, :mod:`pieces` for a leaf's
indices. :mod:`pruned` is what may be known of pruned entries. The words are explained in the
glossary of ``docs/guides/axis_algebra.md``.
"""
