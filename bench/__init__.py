"""Benchmarks that print a table; README.md says what each answers. None is a timed test."""
