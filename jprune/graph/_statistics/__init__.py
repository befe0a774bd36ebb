"""What was collected of the inputs of leaves, batch after batch: :mod:`stats` of :mod:`moments`.

:mod:`split` says where they lie on several devices, :mod:`table` shows them.
"""
