"""`python -m jointkl`, and the console script `jointkl`."""

from __future__ import annotations

import sys

from jointkl import cli


def main() -> None:
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
