"""The root that a configuration names: made once, opened by every command that needs it.

Adapters of hardware are imported only where they are configured: their libraries need what a node
without that hardware does not have.
"""

from __future__ import annotations

from nodeclient.config import Config
from nodeclient.config_root import SoftwareRootConfig, Tpm2RootConfig
from nodeclient.ports import Root
from nodeclient.roots.software import SoftwareRoot


def open_root(config: Config) -> Root:
    """The root of an existing node. Raises RootError."""
    root = config.root
    folder = config.path(root.folder)
    if isinstance(root, SoftwareRootConfig):
        return SoftwareRoot.load(folder, config.path(root.passphrase_file))
    if isinstance(root, Tpm2RootConfig):
        from nodeclient.roots.tpm2 import Tpm2Root

        return Tpm2Root.load(folder, root)
    from nodeclient.roots.zymkey import ZymkeyRoot

    return ZymkeyRoot.load(folder, root)


def create_root(config: Config) -> Root:
    """Make the root of a new node; nothing that exists is replaced. Raises RootError."""
    root = config.root
    folder = config.path(root.folder)
    if isinstance(root, SoftwareRootConfig):
        return SoftwareRoot.create(folder, config.path(root.passphrase_file))
    if isinstance(root, Tpm2RootConfig):
        from nodeclient.roots.tpm2 import Tpm2Root

        return Tpm2Root.create(folder, root)
    from nodeclient.roots.zymkey import ZymkeyRoot

    return ZymkeyRoot.create(folder, root)
