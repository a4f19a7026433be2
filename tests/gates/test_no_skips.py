"""The rule of tests/conftest.py itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = {
    "test": "import pytest\n\ndef test_x():\n    pytest.skip('x')\n",
    "module": "import pytest\npytest.skip('x', allow_module_level=True)\n",
}


def exit_code(folder: Path, ci: str) -> int:
    (folder / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        env={**os.environ, "CI": ci},
        capture_output=True,
        check=False,
        timeout=300,
    ).returncode


@pytest.mark.parametrize("case", sorted(CASES))
def test_skip__in_ci__fails(case: str, tmp_path: Path) -> None:
    (tmp_path / "test_case.py").write_text(CASES[case] + "\n\ndef test_other():\n    pass\n")
    assert exit_code(tmp_path, "true") in (1, 2)


def test_skip__elsewhere__passes(tmp_path: Path) -> None:
    (tmp_path / "test_case.py").write_text(CASES["test"])
    assert exit_code(tmp_path, "") == 0
