"""`python -m dissectdb`: the same as the command `dissectdb`."""

from dissectdb.commands import main

main()
