"""Statistics of what each leaf is multiplied by: found by a walk, recorded in one run.

:mod:`find_products` walks the frames and says what is to be recorded, :mod:`recorder` runs the
function, :mod:`stats` is what comes back.
"""
