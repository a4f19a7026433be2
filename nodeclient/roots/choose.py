"""The root that a configuration names: made once, opened by every command that needs it.

Adapters of hardware are imported only where they are configured: their libraries need what a node
without that hardware does not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodeclient.config.node import Config
from nodeclient.config.root import SoftwareRootConfig, Tpm2RootConfig
from nodeclient.finding import Finding
from nodeclient.ports import Root
from nodeclient.roots.base import BREACH_FILE, RootAbsent
from nodeclient.roots.software import SoftwareRoot

if TYPE_CHECKING:
    from nodeclient.roots.tpm2.root import Tpm2Root
    from nodeclient.roots.zymkey.root import ZymkeyRoot


def _tpm2() -> type[Tpm2Root]:
    """Raises RootAbsent where the library is missing."""
    try:
        from nodeclient.roots.tpm2.root import Tpm2Root
    except ImportError as error:
        raise RootAbsent(
            f"root: the TPM's library is not there ({error.name or 'libtss2'})",
            "install it: apt-get install libtss2-dev gcc pkg-config; pip install 'sealrun[tpm2]'",
        ) from error
    return Tpm2Root


def _zymkey() -> type[ZymkeyRoot]:
    from nodeclient.roots.zymkey.root import ZymkeyRoot

    return ZymkeyRoot


def open_root(config: Config, *, leaving: bool = False) -> Root:
    """The root of an existing node. Raises RootError.

    ``leaving``: one that was opened, too, as far as leaving the draw takes it: it unseals, no more.
    """
    root = config.root
    folder = config.path(root.folder)
    if isinstance(root, SoftwareRootConfig):
        return SoftwareRoot.load(folder, config.path(root.passphrase_file))
    if isinstance(root, Tpm2RootConfig):
        return _tpm2().load(folder, root)
    return _zymkey().load(folder, root, leaving=leaving)


def create_root(config: Config) -> Root:
    """Make the root of a new node; nothing that exists is replaced. Raises RootError."""
    root = config.root
    folder = config.path(root.folder)
    if isinstance(root, SoftwareRootConfig):
        return SoftwareRoot.create(folder, config.path(root.passphrase_file))
    if isinstance(root, Tpm2RootConfig):
        return _tpm2().create(folder, root)
    return _zymkey().create(folder, root)


def breach_of(config: Config) -> Finding:
    """What the root remembers of a breach, whether or not its device is there."""
    return Finding(config.path(config.root.folder) / BREACH_FILE)
