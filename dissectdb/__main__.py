"""`python -m dissectdb`: the same as the command `dissectdb`."""

from dissectdb.commands import main

if __name__ == "__main__":
    main()
