"""Make the two lists of this example again from their public sources (see README.md).

The lists are committed, so nobody has to run this. It is here so that anybody can check that
they are what the README says: one name a line, first letter upper case, sorted, ASCII.

Usage: python3 prepare.py FOLDER_OF_THE_PYPI_SDIST SQLITE_FILE_OF_THE_NPM_PACKAGE
"""

import sqlite3
import sys
from pathlib import Path

HERE = Path(__file__).parent / "lists"


def census_1990(folder: Path) -> set[str]:
    """First names, female and male, that the U.S. Census Bureau counted in 1990."""
    files = [folder / "names" / f"dist.{sex}.first" for sex in ("female", "male")]
    return {line.split()[0].capitalize() for file in files for line in file.open()}


def births_1960(database: Path) -> set[str]:
    """First names on at least ten applications for a Social Security card, births of 1960."""
    rows = sqlite3.connect(database).execute(
        "select name from usNameData where year = 1960 group by name having sum(births) >= 10"
    )
    return {str(name).capitalize() for (name,) in rows}


def main() -> None:
    lists = {
        "census-1990.txt": census_1990(Path(sys.argv[1])),
        "births-1960.txt": births_1960(Path(sys.argv[2])),
    }
    for file, names in lists.items():
        (HERE / file).write_text("\n".join(sorted(names)) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
