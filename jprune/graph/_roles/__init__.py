"""What a function does with each leaf and each of its axes: kernel, vector, table, state."""
