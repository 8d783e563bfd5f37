"""Edits of a network: planned, searched, judged and explained."""
