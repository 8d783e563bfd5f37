"""The command line: options, commands, and tables for a terminal."""

from dissectdb.commands.app import main

__all__ = ["main"]
