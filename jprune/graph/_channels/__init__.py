"""The channel graph: groups of slices that live and die together, and why others must stay."""
