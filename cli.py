"""The command line of a checkout: `python cli.py extract STUDY`. An installation has the command `dissectdb`."""

from dissectdb.commands import main

if __name__ == "__main__":
    main()
