"""The command that shows a warehouse in a browser: serve."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from typing import Annotated

import typer

from dissectdb.commands.options import (
    WAIT,
    Device,
    Memory,
    Overrides,
    Threads,
    Wait,
    WarehousePath,
    load_study,
    warehouse_file,
)

HOST = "127.0.0.1"  # this machine alone; there is no option for another


class ServeError(RuntimeError):
    """The explorer could not be started."""

    exit_code = 2


def serve(
    warehouse: WarehousePath = None,
    study: Annotated[
        Path | None, typer.Option(metavar="STUDY", help="Load its models too, to search by any text and try images")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one")] = 0,
    overrides: Overrides = None,
    device: Device = None,
    memory: Memory = None,
    threads: Threads = None,
    wait: Wait = WAIT,
) -> None:
    """Show the warehouse in a browser on this machine, until Ctrl-C; a job may write to it meanwhile.

    Example: dissectdb serve --study studies/demo.toml -w demo/warehouse.duckdb
    """
    try:
        import uvicorn

        from dissectdb.serve.app import create_app
    except ImportError as error:
        raise ServeError(f"{error.name} is missing; install it with: pip install 'dissectdb[serve]'") from error
    from dissectdb.serve.store import Store

    loaded = None if study is None else load_study(study, overrides, device)
    file = warehouse_file(warehouse or (loaded.warehouse if loaded else None), wait, memory, threads)
    file.to_read().close()  # what is wrong with the file is said here, and not on every page
    listener = _listen(port)
    token, chosen = secrets.token_urlsafe(24), listener.getsockname()[1]
    options = {}
    if loaded is not None:
        from dissectdb.live_models import LoadedLater

        options["models"] = LoadedLater(loaded)
        options["models"].start()
    store = Store(file)
    store.warm_up()
    app = create_app(store, token=token, port=chosen, **options)
    print(f"explorer: http://{HOST}:{chosen}/?token={token}", flush=True)
    print("open this address in a browser on this machine; stop with Ctrl-C", flush=True)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2, ws="none"
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn raises it again once it has stopped, which is how this command ends
        print("explorer: stopped")


def _listen(port: int) -> socket.socket:
    """A socket of this machine alone. Raises ServeError if the port is taken."""
    # asyncio sets TCP_NODELAY only if the protocol is named. Without it each answer waits 40 ms for an acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)  # before the address is printed, so that nobody who opens it at once is refused
    except OSError as error:
        listener.close()
        raise ServeError(f"port {port} of {HOST} cannot be used: {error.strerror}; name another with --port") from error
    return listener
