"""The ring: ``python -m tests.browser`` runs it, or returns 69 where there is no Chromium.

What stands behind it is for pytest: ``python -m tests.browser -k back``.
"""

import subprocess
import sys
from collections.abc import Sequence

from tests.support.servers import UNAVAILABLE, ServerUnavailableError

from .chromium import programs


def main(arguments: Sequence[str]) -> int:
    """Run the tests of this folder; the exit status."""
    try:
        programs()
    except ServerUnavailableError as error:
        print(f"tests.browser: {error}", file=sys.stderr)
        return UNAVAILABLE
    return subprocess.call([sys.executable, "-m", "pytest", "tests/browser", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
