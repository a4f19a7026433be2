"""TPMs are made once: each takes about a second."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.attestation.machine import TpmMachine


@pytest.fixture(scope="session")
def own_pc(tmp_path_factory: pytest.TempPathFactory) -> TpmMachine:
    return TpmMachine(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="session")
def other_pc(tmp_path_factory: pytest.TempPathFactory) -> TpmMachine:
    return TpmMachine(tmp_path_factory.mktemp("other"))


@pytest.fixture
async def machine(own_pc: TpmMachine) -> AsyncIterator[TpmMachine]:
    """A PC that is on."""
    await own_pc.boot(1)
    own_pc.calls.clear()
    yield own_pc
    await own_pc.power_off()


@pytest.fixture
async def other(other_pc: TpmMachine) -> AsyncIterator[TpmMachine]:
    """Another one, with a TPM of another maker."""
    await other_pc.boot(1)
    other_pc.calls.clear()
    yield other_pc
    await other_pc.power_off()


@pytest.fixture
def makers(own_pc: TpmMachine, tmp_path: Path) -> Path:
    """A folder that believes the maker of ``machine``, and nobody else."""
    folder = tmp_path / "ek-roots"
    folder.mkdir()
    (folder / "maker.pem").write_bytes(own_pc.issuer.read_bytes())
    return folder
