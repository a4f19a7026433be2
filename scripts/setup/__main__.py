"""Set everything up, or only the named parts; what is there already is left alone.

Usage: scripts/setup.sh [python] [anvil] [machine] [lab] [compose]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # isolated mode leaves it out

from anvil import make_anvil
from common import SetupError
from lab import make_lab
from machine import make_compose, make_engine, make_image
from python import make_environment

PARTS = {
    "python": (make_environment,),
    "anvil": (make_anvil,),
    "machine": (make_engine, make_image),
    "lab": (make_lab,),
    "compose": (make_compose,),
}


def main(names: list[str]) -> int:
    """Do the named parts in order. Returns the exit code: 2 for an unknown part."""
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        print(f"setup: no part {unknown[0]!r}; choose from {', '.join(PARTS)}", file=sys.stderr)
        return 2
    try:
        for name in names or PARTS:
            for step in PARTS[name]:
                step()
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
