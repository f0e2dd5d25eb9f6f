"""Readers and their checks, splits, scaling, and built-in synthetic sets."""
