"""What is typed: options, commands, and rows printed for a terminal."""

from dissectdb.commands.app import main

__all__ = ["main"]
