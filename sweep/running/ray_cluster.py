"""A Ray cluster, reached and checked: its token, its machines, and what of a study travels to them."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.errors import ClusterError, MissingExtraError
from sweep.preflight.devices import Device
from sweep.preflight.placement import device_here
from sweep.study.file import StudyFile
from sweep.study.sources import own_paths

STAYS = ("*.db", "*.db-wal", "*.db-shm", "*.logs", "*.html", ".git", ".venv", "__pycache__")
"""What lies in a study's folder and is not sent along."""
DEVICE_S = 60
"""Seconds that a machine has to say which GPU it has."""
REACH_S = 5
"""Seconds that an address has to answer at all."""
PROBE_S = 30
"""Seconds that a cluster has to answer whether it asks for a token."""


def join(config: StudyFile) -> None:
    """Joins the cluster that a study names, as a driver, unless this process has. Its authentication is by token.

    Ray 2.60 listens on every address of a machine, whichever it is told: without a token, whoever reaches a port runs
    code there.

    Raises:
        MissingExtraError: where Ray is not installed.
        ClusterError: where there is no such cluster, its token is another, or it asks for none.
    """
    address, without_token = config.run.ray, config.run.ray_without_token
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    too_late = "ray" in sys.modules and "RAY_AUTH_MODE" not in os.environ
    if not without_token:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("--ray needs Ray; `pip install 'rank-sweep[ray]'` brings it") from error
    if ray.is_initialized():
        return
    _check_reachable(str(address))
    runtime: dict[str, Any] = {}
    if (travels := travelling_folder(config)) is not None:
        runtime = {"working_dir": str(travels), "excludes": list(STAYS)}
    try:
        with _without_stderr():
            ray.init(address=address, runtime_env=runtime, log_to_driver=False, logging_level=logging.CRITICAL)
    except ray.exceptions.AuthenticationError as error:
        if too_late and not without_token:  # Ray 2.60 reads its environment once, when it is imported
            raise ClusterError(
                "Ray was imported here before it could be told of the cluster's token: set RAY_AUTH_MODE=token before "
                "whatever imports it (vLLM does)"
            ) from error
        raise ClusterError(
            "the Ray cluster's token is not known here: put it into RAY_AUTH_TOKEN or ~/.ray/auth_token, as on its head"
        ) from error
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(f"no Ray cluster answers at {address!r}: {_first_line(error)}") from error
    if not without_token and _is_open(ray.get_runtime_context().gcs_address):
        ray.shutdown()
        raise ClusterError(
            f"the Ray cluster at {address!r} asks for no token, so that whoever reaches it can run code there: start "
            "its machines with RAY_AUTH_MODE=token, or give --ray-without-token"
        )


def _check_reachable(address: str) -> None:
    """Checks that something listens at an address; Ray 2.60 waits for minutes where nothing does. `auto` Ray knows.

    Raises:
        ClusterError: where nothing does.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=REACH_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ClusterError(f"no Ray cluster answers at {address!r}: {_first_line(error)}") from error


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Lets nobody write to stderr: Ray's own code would tell of a wrong token twenty times, below Python."""
    sys.stderr.flush()
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _is_open(address: str) -> bool:
    """Whether a cluster answers somebody who shows no token."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    probe = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        done = subprocess.run(
            probe, env=environment | {"RAY_AUTH_MODE": "disabled"}, capture_output=True, timeout=PROBE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What of a cluster a worker gets, and how many such shares there are."""

    workers: int
    gpus: int
    cpus: int


def shares(*, on_gpu: bool) -> Share:
    """One worker per GPU of the cluster or, without any, one per machine; processor cores are divided among them.

    Raises:
        ClusterError: where workers need a GPU, and no machine has one.
    """
    import ray

    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = [machine for machine in machines if machine.get("GPU", 0) >= 1]
    if gpus:
        # Every worker asks for the same, so that it fits on the machine with the fewest cores a GPU.
        cpus = min(int(machine.get("CPU", 0)) // int(machine["GPU"]) for machine in gpus)
        return Share(workers=sum(int(machine["GPU"]) for machine in gpus), gpus=1, cpus=cpus)
    if on_gpu:
        raise ClusterError("the study needs a GPU (model.device = 'gpu'), and no machine of the cluster has one")
    with_cores = [int(machine["CPU"]) for machine in machines if machine.get("CPU", 0) >= 1]
    return Share(workers=len(with_cores), gpus=0, cpus=min(with_cores, default=1))


def device_there(share: Share) -> Device | None:
    """The GPU that a worker of the cluster gets; None for a processor.

    Raises:
        ClusterError: where no machine answers.
    """
    import ray

    # Without a core of its own: the question takes none, and all may be in use.
    asked = ray.remote(device_here).options(num_gpus=share.gpus, num_cpus=0).remote()
    try:
        device: Device | None = ray.get(asked, timeout=DEVICE_S)
    except ray.exceptions.RayError as error:
        raise ClusterError(f"no machine of the Ray cluster answers: {_first_line(error)}") from error
    return device


def travelling_folder(config: StudyFile) -> Path | None:
    """The folder that workers on other machines need: the study file's, where the study names code or data of its own.

    Raises:
        ClusterError: where some of it lies elsewhere.
    """
    folder, found = config.code_folders[0], own_paths(config).values()
    for path in found:
        if not path.is_relative_to(folder):
            raise ClusterError(f"{path} lies outside {folder}: only that folder is sent to machines")
    return folder if found else None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
