"""The folders: ``<temporary directory>/django-idempotency-<uid>/{postgresql-18,run-...}``.

The first kind holds a server's programs and stays, the second a running server's data, which
``IDEMPOTENCY_TEST_DATA`` may put elsewhere. A lock says whether the starter of the latter lives.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import ServerUnavailableError

DATA_VARIABLE = "IDEMPOTENCY_TEST_DATA"


def home(parent: str | None = None) -> Path:
    """This user's folder below the system's temporary one, where ``nobody`` can read it too."""
    folder = Path(parent or tempfile.gettempdir()) / f"django-idempotency-{os.geteuid()}"
    folder.mkdir(exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise ServerUnavailableError(f"{folder} belongs to somebody else")
    folder.chmod(0o755)
    return folder


def data_home() -> Path:
    """The folder of the running servers' folders."""
    return home(os.environ.get(DATA_VARIABLE))


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock on ``path`` inside the block, or say with False that another process does."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def run_folder(user: int | None, group: int | None) -> Iterator[Path]:
    """A folder for one server, removed at the end; those of dead starters are removed first."""
    with contextlib.ExitStack() as held:
        with locked(data_home() / "folders.lock"):
            remove_stale_folders()
            folder = Path(tempfile.mkdtemp(prefix="run-", dir=data_home()))
            held.enter_context(locked(lock_of(folder)))
        if user is not None and group is not None:
            os.chown(folder, user, group)
        try:
            yield folder
        finally:
            remove(folder)


def remove_stale_folders() -> None:
    """Remove the folders whose starters died."""
    for folder in data_home().glob("run-*/"):
        with locked(lock_of(folder), wait=False) as unused:
            if unused:
                remove(folder)


def remove(folder: Path) -> None:
    """Remove a server's folder with its lock; a server that still ends may write meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        lock_of(folder).unlink(missing_ok=True)


def lock_of(folder: Path) -> Path:
    """The file whose lock says that the folder's starter lives."""
    return folder.with_name(f"{folder.name}.lock")
