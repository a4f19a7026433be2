"""The table ``[root]`` of a Node's configuration: what holds its root key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from nodeclient.config.part import Part, kind_or

Pcr = Annotated[int, Field(ge=0, le=23)]
Channel = Annotated[int, Field(ge=0, le=1)]


class RootConfig(Part):
    """What every root has. ``folder``: its files. ``health_seconds`` between two looks at it while
    the node runs; ``patience_seconds``: how long one command may take before it counts as busy.
    """

    folder: Path = Path("root")
    health_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 5.0
    patience_seconds: Annotated[float, Field(ge=0.1, le=120)] = 20.0


class SoftwareRootConfig(RootConfig):
    """A key in a file; the file of its passphrase."""

    kind: Literal["software"] = "software"
    passphrase_file: Path = Path("root/passphrase")


class Tpm2RootConfig(RootConfig):
    """A TPM 2.0. ``tcti``: how it is reached, as tpm2-tss writes it.

    ``pcrs``: registers (SHA-256 bank) that must be the same when secrets are unsealed as when they
    were sealed. None by default: firmware and kernel of a Pi are not measured into a TPM unless its
    operator has set that up, and where they are, each update would lock the node out of its keys.
    """

    kind: Literal["tpm2"]
    tcti: Annotated[str, Field(pattern=r"^(device|swtpm|mssim|tabrmd)(:[\x21-\x7e]+)?$")] = (
        "device:/dev/tpmrm0"
    )
    pcrs: frozenset[Pcr] = frozenset()


class ZymkeyRootConfig(RootConfig):
    """A Zymbit Zymkey. ``library``: Zymbit's, where its package puts it.

    ``perimeter``: channels whose loop is wired. A breach of one of them ends this root's use. Both,
    unless said otherwise: an empty list says that nobody notices when the case is opened.
    """

    kind: Literal["zymkey"]
    library: Path = Path("/usr/lib/libzk_app_utils.so")
    perimeter: frozenset[Channel] = frozenset({0, 1})


AnyRootConfig = Annotated[
    Annotated[SoftwareRootConfig, Tag("software")]
    | Annotated[Tpm2RootConfig, Tag("tpm2")]
    | Annotated[ZymkeyRootConfig, Tag("zymkey")],
    Discriminator(kind_or("software")),
]
RootKind = Literal["software", "tpm2", "zymkey"]
