"""Which elements rank among the k largest: exact, by counting, on any device."""
