"""A Node's folder on disk: made once, opened by every command that needs its keys or blocks."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from nodeclient.capsules.keys import FolderVault
from nodeclient.capsules.stores.blockstore import FolderStore
from nodeclient.chain import deployment
from nodeclient.config.node import Config, load_config, write_config
from nodeclient.core.case import Role
from nodeclient.core.types import RootClass
from nodeclient.errors import NodeFolderInvalid
from nodeclient.files import read_private, write_new
from nodeclient.identity.keys import NodeKeys
from nodeclient.identity.registration import prepare_registration, write_registration
from nodeclient.ports import Root
from nodeclient.roots.choose import create_root, open_root
from nodeclient.store.cover import STORE_KEY


@dataclass(frozen=True, slots=True)
class NodeFolder:
    """An opened node folder: configuration, root of trust, block store, vault of content keys."""

    config: Config
    root: Root
    store: FolderStore
    vault: FolderVault

    def load_keys(self) -> NodeKeys:
        """The node's own keys. Raises KeysError."""
        return NodeKeys.load(self.root, self.config.folder)

    def load_store_key(self) -> bytes:
        """The 32-byte key that covers the node's database at rest; made at the first start.

        Raises RootError when it was sealed by another root, FileRefused when others may read it.
        """
        path = self.config.folder / STORE_KEY
        if not path.exists():
            write_new(path, self.root.seal(self.root.random(32), STORE_KEY))
        return self.root.unseal(read_private(path), STORE_KEY)


def open_folder(folder: Path, *, leaving: bool = False) -> NodeFolder:
    """Open an existing node's folder. Raises ConfigError, RootError; ``leaving`` as `open_root`."""
    config = load_config(folder)
    return NodeFolder(
        config,
        open_root(config, leaving=leaving),
        FolderStore(config.path(config.store.blocks)),
        FolderVault(config.path(config.store.keys)),
    )


def open_store(folder: Path) -> FolderStore:
    """Only the block store of a node's folder, for what needs no key. Raises ConfigError."""
    config = load_config(folder)
    return FolderStore(config.path(config.store.blocks))


def create_folder(
    folder: Path,
    *,
    rpc: str,
    deployment_file: Path,
    endpoint: str,
    roles: frozenset[Role],
    root: Mapping[str, str | list[int]] = MappingProxyType({"kind": "software"}),
) -> dict[str, object]:
    """Make a new node in ``folder``; return its account, root class and registration file.

    ``root``: the table of that name in the configuration; what it lacks has defaults.
    All or nothing: after an error the folder is as it was. Raises NodeFolderInvalid where
    something lies already, ConfigError, DeploymentInvalid, RootError, KeysError, ContactInvalid.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NodeFolderInvalid(f"{folder} is not empty", "choose a new folder")
    deployed = deployment.load(deployment_file)
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    try:
        write_config(
            folder, rpc=rpc, deployment=deployment_file, endpoint=endpoint, roles=roles, root=root
        )
        with contextlib.closing(create_root(load_config(folder))) as made:
            keys = NodeKeys.create(made, folder)
            registration = prepare_registration(
                made,
                keys,
                chain_id=deployed.chain_id,
                registry=deployed["NodeRegistry"].address,
                endpoint=endpoint,
            )
            path = write_registration(folder, registration)
            described = describe(made)
    except BaseException:
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if not existed:
            folder.rmdir()
        raise
    return {
        "node": str(folder),
        "account": registration["account"],
        "root": described,
        "registration": str(path),
    }


def describe(root: Root) -> str:
    """A root's class for people, and whether it is a simulated one."""
    name = RootClass(root.class_id).name.lower()
    return f"{name} (simulated)" if root.simulated else name
