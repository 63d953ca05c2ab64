#!/usr/bin/env python
"""Django's command line for the cake shop: ``python -m testproject.manage <command>``."""

import os
import sys
from pathlib import Path

from django.core.management import execute_from_command_line


def main() -> None:
    """Run the command the arguments name."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    # Run by its path, Python looks for modules next to this file instead of above it.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main()
