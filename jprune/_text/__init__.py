"""How reports look: words and numbers, names folded into one, tables as text and as HTML.

A report makes rows of cells; :mod:`table` and :mod:`html` lay the same rows out for a terminal and
for a notebook.
"""
