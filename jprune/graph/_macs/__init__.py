"""Multiply-adds, leaf by leaf and equation by equation; dense, under masks, shrunk."""
