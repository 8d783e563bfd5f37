"""Rows in, HTML out; knows no database."""
