"""`python -m modelworks …` is `modelworks …`."""

from __future__ import annotations

import sys

from modelworks.cli import main

if __name__ == "__main__":
    sys.exit(main())
