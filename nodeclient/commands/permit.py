"""``sealrun capsule permit``: say what a Capsule may be used for. Without it: for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.formats.cid import digest_of
from nodeclient.capsules.policies import load_policy, save_policy
from nodeclient.commands.output import Json, NodeFolder, show
from nodeclient.core.policy_file import policy_to_dict
from nodeclient.identity.folder import open_folder


def permit(
    cid: Annotated[str, typer.Argument(help="CID of a capsule of this node.")],
    policy: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="A policy: TOML, or .json.")
    ],
    node: NodeFolder = Path("node"),
    as_json: Json = False,
) -> None:
    """Set what a capsule of this node may be used for; a running node heeds it at once."""
    digest_of(cid)
    opened = open_folder(node)
    opened.vault.get(cid)  # a policy for somebody else's Capsule would permit nothing
    wanted = load_policy(policy)
    save_policy(opened.config.folder, cid, wanted)
    show({"cid": cid, **policy_to_dict(wanted)}, as_json)
