"""The smaller function: evaluated at small sizes, compared with the masked one."""
