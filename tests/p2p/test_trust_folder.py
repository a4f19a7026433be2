"""The hashed directory that OpenSSL reads: names, twins, removal."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from nodeclient.p2p import tls
from nodeclient.p2p.limits import OverLimit, RateLimiter, Slots
from nodeclient.p2p.tls import TrustFolder, subject_hash
from tests.p2p.conftest import Node, make_node


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_subject_hash__equals_openssls(executor: Node, tmp_path: Path) -> None:
    path = tmp_path / "certificate.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(executor.identity.certificate))
    told = subprocess.run(
        ["openssl", "x509", "-subject_hash", "-noout", "-in", path],
        capture_output=True,
        check=True,
        text=True,
    )
    assert subject_hash(executor.address) == told.stdout.strip()


def test_twins__first_removed__others_stay_without_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "subject_hash", lambda _: "0badcafe")
    folder = TrustFolder(tmp_path)
    nodes = [make_node(number) for number in range(1, 4)]
    for node in nodes:
        folder.change(node.address, None, node.identity.certificate)
    folder.change(nodes[0].address, nodes[0].identity.certificate, None)
    assert names(tmp_path) == ["0badcafe.0", "0badcafe.1"]
    kept = {ssl.PEM_cert_to_DER_cert(path.read_text()) for path in tmp_path.iterdir()}
    assert kept == {nodes[1].identity.certificate, nodes[2].identity.certificate}
    for node in nodes[1:]:
        folder.change(node.address, node.identity.certificate, None)
    assert names(tmp_path) == []


def test_clear__foreign_files__left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "0badcafe.0").write_text("old")
    TrustFolder(tmp_path).clear()
    assert names(tmp_path) == ["notes.txt"]


def test_rate__tokens_return_with_time__never_above_the_burst() -> None:
    now = [0.0]
    rate = RateLimiter(rate=2.0, burst=3, clock=lambda: now[0])
    for elapsed, allowed in ((0.0, 3), (1.0, 2), (100.0, 3)):
        now[0] += elapsed
        for _ in range(allowed):
            rate.spend(b"peer")
        with pytest.raises(OverLimit):
            rate.spend(b"peer")


def test_rate__many_keys__memory_stays_bounded() -> None:
    rate = RateLimiter(rate=1.0, burst=1, clock=lambda: 0.0)
    for number in range(RateLimiter.MAX_KEYS + 50):
        rate.spend(number.to_bytes(20))
    assert len(rate._buckets) == RateLimiter.MAX_KEYS


def test_slots__total_and_each__both_bound() -> None:
    slots = Slots(total=3, each=2)
    slots.take("a")
    slots.take("a")
    with pytest.raises(OverLimit):
        slots.take("a")
    slots.take("b")
    with pytest.raises(OverLimit):
        slots.take("c")
    slots.give("a")
    slots.take("c")
    assert len(slots) == 3
