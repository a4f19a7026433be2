"""The set-up where it can go wrong: one line, the next step, nothing hangs."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ROOT / "scripts" / "setup"


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("common", monkeypatch)


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the set-up, which is a script folder and no package."""
    monkeypatch.syspath_prepend(str(PARTS))
    spec = importlib.util.spec_from_file_location(name, PARTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def setup_sh(*words: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"PATH": path} if path else {}), "PYTHON": ""}
    return subprocess.run(
        ["/bin/sh", str(ROOT / "scripts/setup.sh"), *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_setup__unknown_part__exit_code_2() -> None:
    done = setup_sh("kitchen")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_setup__no_python__says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "dirname").symlink_to("/usr/bin/dirname")
    done = setup_sh(path=str(tmp_path))
    assert done.returncode == 1
    assert "apt-get install python3.11" in done.stderr


def test_apt__no_root__names_the_packages(
    common: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(common.SetupError, match=r"apt-get install docker\.io iptables"):
        common.apt_install(["iptables", "docker.io"], "the Docker engine")


def test_run__no_answer__ends_in_time(
    common: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(common, "BUILD", tmp_path)
    monkeypatch.setattr(common, "LOG", tmp_path / "setup.log")
    monkeypatch.setattr(common, "ROOT", tmp_path)
    with pytest.raises(common.SetupError, match="try again"):
        common.run(["sleep", "30"], "try again", seconds=1)


def test_builders__lock__are_taken_with_their_hashes(
    common: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = load("python", monkeypatch)
    chosen = python.builders_of((ROOT / "requirements.lock").read_text())
    names = {line.split("==")[0] for line in chosen.splitlines() if "==" in line}
    assert names == set(python.BUILDERS)
    assert {"setuptools", "wheel", "setuptools-scm", "pkgconfig"} <= names
    assert chosen.count("--hash=sha256:") >= len(names)


def test_compiling__library_or_headers_missing__are_installed_by_name(
    common: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    python, installed = load("python", monkeypatch), []
    monkeypatch.setattr(python, "apt_install", lambda packages, what: installed.append(packages))
    python._need_compiler()
    assert installed == [], "all is there, or these tests would not run"
    monkeypatch.setattr(python, "_is_there", lambda sign: sign == "gcc")
    monkeypatch.setattr(python.sysconfig, "get_path", lambda name: "/nowhere")
    python._need_compiler()
    (packages,) = installed
    version = f"python3.{sys.version_info.minor}-dev"
    assert packages == {"pkg-config", "libtss2-dev", version}


def test_stamp__changed_input__is_done_again(
    common: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(common, "BUILD", tmp_path)
    (tmp_path / "lock").write_text("a")
    before = common.fingerprint(tmp_path / "lock")
    common.set_done("step", before)
    assert common.is_done("step", before)
    (tmp_path / "lock").write_text("b")
    assert not common.is_done("step", common.fingerprint(tmp_path / "lock"))


def test_lab__package_is_missing__is_installed_by_name(
    common: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("machine", monkeypatch)
    lab, asked = load("lab", monkeypatch), []
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(lab, "apt_install", lambda names, _: asked.extend(names))
    monkeypatch.setattr(lab, "run", lambda command, *_, **__: asked.extend(command[1:-1]))
    monkeypatch.setattr(lab, "_is_there", lambda sign: sign not in ("swtpm", "nft"))
    lab.make_lab()
    built = ["image", "build", "boot", "image", "build", "eraser"]
    assert asked == ["nftables", "swtpm", *built]


def test_lab__no_root__is_left_out_with_a_line(
    common: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load("machine", monkeypatch)
    lab = load("lab", monkeypatch)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(lab, "_is_there", lambda _: False)
    monkeypatch.setattr(lab, "run", pytest.fail)
    lab.make_lab()
    assert capsys.readouterr().out.endswith("run as root: make lab\n")
