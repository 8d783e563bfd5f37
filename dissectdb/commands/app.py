"""The command line as a whole: its commands, its exit codes, and what happens when it is stopped.

A command reads its options, calls one function (mostly of dissectdb.pipeline) and prints what that returns. Results go
to stdout, progress to stderr. Exit codes: 0 done, 1 a check or a build failed, 2 a wrong option or study file, 3 the
warehouse is locked or unreadable, 130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

import typer

from dissectdb.commands import ask, concepts, exchange, init, judging, run, screen, serve, stages, views
from dissectdb.commands.options import Version

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="What each neuron of a vision network responds to, whether that can be trusted, and what to change: in SQL.",
)
NAMED_LIKE_THEIR_FUNCTION = (
    *(
        run.demo,
        init.init,
        run.extract,
        views.build,
        ask.query,
        run.modify,
        run.effects,
        judging.judge,
        ask.report,
        serve.serve,
        ask.status,
        ask.check,
    ),
    *(run.train, exchange.export),
)
for command in NAMED_LIKE_THEIR_FUNCTION:
    app.command()(command)
app.command("import")(exchange.import_)
app.command()(exchange.convert)
app.command("compile")(views.compile_)
app.add_typer(concepts.app, name="concepts")


@app.callback()
def options(version: Version = False) -> None:
    """Options that stand before a command."""


def main() -> None:
    """Run a command. An expected failure is one line and its exit code, a bug is a traceback."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed, as in some services
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    signals = _stop_on_signals()
    _show_notes()
    try:
        app()
    except BaseException as error:
        succeeded = isinstance(error, SystemExit) and not error.code
        if signals and not succeeded:  # DuckDB and typer turn an interrupt into errors of their own
            print("dissectdb: stopped; the same command continues from what is committed", file=sys.stderr)
            sys.exit(130)
        code = getattr(error, "exit_code", None)  # dissectdb's own error classes have one
        if code is None:
            raise
        screen.put_error(f"dissectdb: {error}")
        sys.exit(code)
    finally:
        logging.getLogger("dissectdb").handlers = []


class _Note(logging.Formatter):
    """The message alone. A warning is marked as one, so that it stands out among lines of progress."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{'warning: ' if record.levelno >= logging.WARNING else ''}{record.getMessage()}"


def _show_notes() -> None:
    """Print on stderr what the library logs for the user: assumptions and warnings."""
    log = logging.getLogger("dissectdb")
    log.setLevel(logging.INFO)
    log.handlers = [stages.Notes()]
    log.handlers[0].setFormatter(_Note())
    # open_clip logs to the root logger, which would then add a handler itself and print every note a second time.
    logging.getLogger().addHandler(logging.NullHandler())


def _stop_on_signals() -> list[int]:
    """Make Ctrl-C and SIGTERM raise KeyboardInterrupt; the list gets the number of each signal that arrives."""
    signals: list[int] = []

    def stop(number: int, frame: object) -> None:
        signals.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores them
            signal.signal(number, stop)
    return signals
