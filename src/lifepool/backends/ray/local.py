"""Ray on this machine: join the one that runs here, or start one that all apps of this user share.

It is started by the driver process of one app and ends with it; the others then start another. A lock in a folder of
the user's own keeps two from starting at the same time; a file beside it says where the running one is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Seconds for which another app may take to start Ray, before this one starts its own.
OTHERS_START_S = 30.0
#: Seconds for which Ray's processes may still write into its folder when it has ended.
LAST_WRITES_S = 3.0
#: Seconds in which a Ray that is said to run must accept a connection.
ANSWER_S = 1.0


class LocalRay:
    """Ray on this machine.

    Args:
        log: Called with a level and a message, from this thread.
    """

    def __init__(self, log: Callable[[str, str], object]) -> None:
        self._log = log
        self._home = _home()
        self._folder: Path | None = None

    def connect(self, namespace: str) -> None:
        """Join or start it. It blocks for seconds."""
        options: dict[str, Any] = {"namespace": namespace, "log_to_driver": False, "logging_level": "ERROR"}
        with _locked(self._home / "lock"):
            address = next(filter(_answers, self._known()), None)
            # Ray reads its environment when it is imported.
            if address in (None, self._ours()):
                os.environ.setdefault("RAY_AUTH_MODE", "token")
            if address is None:
                self._sweep()
                self._folder = self._home / str(os.getpid())
                self._folder.mkdir()
                os.environ["RAY_TMPDIR"] = str(self._folder)
            import ray

            if address is not None:
                ray.init(address, **options)
                return
            started = ray.init(include_dashboard=False, **options)
            (self._home / "address").write_text(started.address_info["gcs_address"])
            self._log("info", "started Ray on this machine; it ends with this app")

    def _known(self) -> Iterator[str]:
        """Find addresses where it may run: what the user says, what ``ray start`` has left, what one of us has."""
        if address := os.environ.get("RAY_ADDRESS"):
            yield address
        with contextlib.suppress(OSError):
            yield (_temp() / "ray" / "ray_current_cluster").read_text().strip()
        if ours := self._ours():
            yield ours

    def _ours(self) -> str | None:
        with contextlib.suppress(OSError):
            return (self._home / "address").read_text()
        return None

    def _sweep(self) -> None:
        """Remove the folders of those that were killed."""
        for folder in self._home.glob("[0-9]*"):
            if not _is_alive(int(folder.name)):
                _remove(folder)

    def end(self) -> None:
        """Disconnect, and end what was started here. It blocks for a second or two."""
        import ray

        ray.shutdown()
        if self._folder is not None:
            _remove(self._folder)


def _remove(folder: Path) -> None:
    """Remove a folder into which processes that are just ending may still write."""
    deadline = time.monotonic() + LAST_WRITES_S
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > deadline:
            return  # the next one that starts Ray here sees to it
        time.sleep(0.02)


def _home() -> Path:
    """Return the folder of this user.

    Raises:
        PermissionError: If it is somebody else's.
    """
    home = _temp() / f"lifepool-ray-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    status = home.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or home.is_symlink():
        raise PermissionError(f"{home} is not this user's alone")
    return home


def _temp() -> Path:
    """Return where Ray looks as well. The paths of its sockets below it may have 107 bytes."""
    return Path(tempfile.gettempdir() if sys.platform == "linux" else "/tmp")  # noqa: S108 - it has a private folder there


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock, if it can be had in time."""
    deadline = time.monotonic() + OTHERS_START_S
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.1)
        yield


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError, ValueError), socket.create_connection((host.strip("[]"), int(port)), ANSWER_S):
        return True
    return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
