"""How often each word occurs in all inputs together: a tab-separated table for every receiver.

Contract of a function: inputs are files in /capsule/in, read-only; each receiver of the task has a
folder in /capsule/out. Arguments come from the task's command: here how many words to keep.
"""

import re
import sys
from collections import Counter
from pathlib import Path

INPUTS = Path("/capsule/in")
OUTPUTS = Path("/capsule/out")
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def words_of(file: Path) -> list[str]:
    """Words of one UTF-8 text in lower case; bytes that are no UTF-8 end no word."""
    return WORD.findall(file.read_text(encoding="utf-8", errors="replace").casefold())


def main() -> int:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    counts: Counter[str] = Counter()
    for file in sorted(INPUTS.iterdir()):
        counts.update(words_of(file))
    # Ties by the word itself, so that the same inputs give the same bytes everywhere.
    table = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]
    answer = "".join(f"{count}\t{word}\n" for word, count in table)
    for receiver in sorted(OUTPUTS.iterdir()):
        (receiver / "words.tsv").write_text(answer, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
