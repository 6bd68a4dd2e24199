"""`sweep dashboard`."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli.options import StorageOption
from sweep.cli.stored import StoredStudyArgument, open_stored
from sweep.errors import MissingExtraError
from sweep.storage.default import DEFAULT_STORAGE

if TYPE_CHECKING:
    from sweep.dashboard.server import DashboardServer


def dashboard(
    study: StoredStudyArgument,
    storage: StorageOption = DEFAULT_STORAGE,
    host: Annotated[
        str, typer.Option("--host", help="The name or address to listen on, and the one that readers use.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port to listen on; 0 picks a free one.")
    ] = 8080,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TEXT",
            envvar="SWEEP_DASHBOARD_TOKEN",
            help="What readers have to show. Without it, one is made and printed where `--host` is not this machine "
            "alone. The environment variable keeps it out of the list of processes.",
        ),
    ] = None,
) -> None:
    """Show a stored study in optuna-dashboard: the verdict as its note, our plots, each trial's files.

    Verdict, plots and the files of the newest 200 trials (log, learning curve, adapter if it was kept) are stored when
    this starts; start it again to bring them up to date. The rest is live while the study runs.

    Nothing can be changed there, and it is reached from this machine alone unless `--host` says otherwise. Then every
    reader needs a token: they open the address with `?token=` once, and a cookie holds it until the browser is closed.
    Ctrl-C stops it.

    Examples: `sweep dashboard tiny`, `sweep dashboard tiny --port 8081`, `sweep dashboard tiny --host 192.168.1.20`
    """
    try:
        import optuna_dashboard
    except ImportError as error:
        raise MissingExtraError("optuna-dashboard is not installed: pip install 'rank-sweep[dashboard]'") from error
    from optuna.artifacts import FileSystemArtifactStore

    from sweep.cli.pasted import confirm_command
    from sweep.dashboard.access import Access, checked_token, make_token
    from sweep.dashboard.artifacts import artifact_folder
    from sweep.dashboard.guard import Guard, url_host
    from sweep.dashboard.publish import publish_study
    from sweep.dashboard.server import DashboardServer
    from sweep.storage.bulk import read_for_pages
    from sweep.storage.optuna_internals import storage_of, study_id
    from sweep.storage.summary import stored_config

    given = None if token is None else checked_token(token)
    stored = open_stored(study, storage)
    read_for_pages(stored)
    with DashboardServer(host, port) as server:
        publish_study(stored, url=storage, confirm_with=confirm_command(study, stored_config(stored), storage=storage))
        # Optuna's cache comes with the study: without it, every poll reads every trial's steps again.
        app = optuna_dashboard.wsgi(storage_of(stored), FileSystemArtifactStore(artifact_folder(storage)))
        everywhere, alone = server.address.is_unspecified, server.address.is_loopback
        asked = given or (None if alone else make_token())
        access = None if asked is None else Access(asked, server.server_port)
        server.set_app(Guard(app, host, any_address=everywhere, access=access))
        if not alone:
            typer.echo(
                f"warning: whoever reaches {host} and has the token can read every study in this storage; nothing is "
                "encrypted on the way",
                err=True,
            )
        root = f"http://{'127.0.0.1' if everywhere else url_host(host)}:{server.server_port}"
        page = f"{root}/dashboard/studies/{study_id(stored)}"
        _stop_at_ctrl_c(server)  # before anybody is told that it is there to be stopped
        if asked is not None:
            # A token that was given is known to whoever gave it, and stays out of what is kept of this output.
            shown = f"{root}/?token={asked}" if given is None else f"{root}/?token= and your token"
            elsewhere = " (elsewhere, with this machine's address)" if everywhere else ""
            typer.echo(f"first, once in each browser{elsewhere}: {shown}")
        typer.echo(f"verdict: {page}/note\nplots:   {page}\ntrials:  {page}/trials\nread-only; Ctrl-C stops it")
        server.serve_forever()


def _stop_at_ctrl_c(server: DashboardServer) -> None:
    """Ends `serve_forever`: a KeyboardInterrupt that strikes while Python tidies up after a request would be lost."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second one ends what hangs
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGINT, stop)
