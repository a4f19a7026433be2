"""The devices of an embedded network: one per node, named as simulated, gone at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeclient.config.root import ZymkeyRootConfig
from nodeclient.core.admission import MAKER_ZYMBIT
from nodeclient.core.types import RootClass
from nodeclient.roots.zymkey.root import ZymkeyRoot
from scripts.embedded.roots import KINDS, ZymkeyRoots


def running() -> set[int]:
    """Processes of stand-ins."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"standin/serve.py" in path.read_bytes():
                found.add(int(path.parent.name))
        except OSError:  # ended meanwhile
            continue
    return found


def test_kinds__every_class_of_the_registry__has_its_row(tmp_path: Path) -> None:
    made = {name: kind(tmp_path / name) for name, kind in KINDS.items()}
    assert {name: each.root_class.name.lower() for name, each in made.items()} == {
        each.name.lower(): each.name.lower() for each in RootClass
    }


def test_zymkeys__a_device_per_node__until_the_network_stops(tmp_path: Path) -> None:
    said: list[str] = []
    roots = ZymkeyRoots(tmp_path / "roots")
    try:
        roots.start(said.append)
        tables = [roots.table(name) for name in ("worker-1", "worker-2")]
        made = [
            ZymkeyRoot.create(tmp_path / f"{number}", ZymkeyRootConfig.model_validate(table))
            for number, table in enumerate(tables)
        ]
        assert len({root.hardware_id() for root in made}) == 2
        assert all(root.simulated for root in made)
        for root in made:
            root.close()
        ours = {device._process.pid for device in roots.devices.values() if device._process}
        assert len(ours) == 2
        assert ours <= running()
    finally:
        roots.stop()
    roots.stop()
    assert not ours & running()
    assert "SIMULATED" in said[0]
    assert roots.maker == MAKER_ZYMBIT


def test_zymkeys__no_compiler__says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get install gcc libc6-dev"):
        ZymkeyRoots(tmp_path / "roots").start(lambda _: None)
