"""``python -m rsp``: the command ``rsp``."""

from __future__ import annotations

import sys

from rsp.cli import main

if __name__ == "__main__":
    sys.exit(main())
