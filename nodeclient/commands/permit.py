"""``sealrun capsule permit``: say what a Capsule may be used for. Without it: for nothing."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.formats.cid import digest_of
from nodeclient.commands.output import Json, NodeFolder, show
from nodeclient.core.policy_file import PolicyError, policy_from_dict, policy_to_dict
from nodeclient.errors import BadInput
from nodeclient.files import replace_file
from nodeclient.folder import open_folder
from nodeclient.policies import MAX_FILE

FOLDER = "policies"
NEXT = "correct it; docs/policy.md explains every key"


def permit(
    cid: Annotated[str, typer.Argument(help="CID of a capsule of this node.")],
    policy: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A policy file.")],
    node: NodeFolder = Path("node"),
    as_json: Json = False,
) -> None:
    """Set what a capsule of this node may be used for; a running node heeds it at once."""
    digest_of(cid)
    opened = open_folder(node)
    opened.vault.get(cid)  # a policy for somebody else's Capsule would permit nothing
    content = policy_to_dict(_read(policy))
    folder = opened.config.path(Path(FOLDER))
    folder.mkdir(mode=0o700, exist_ok=True)
    replace_file(folder / f"{cid}.json", json.dumps(content, indent=1).encode())
    show({"cid": cid, **content}, as_json)


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        raw = file.read(MAX_FILE + 1)
    if len(raw) > MAX_FILE:
        raise BadInput(f"{path} exceeds {MAX_FILE >> 10} KiB", "check the path")
    try:
        return policy_from_dict(tomllib.loads(raw.decode()))
    except PolicyError as error:
        raise BadInput(f"{path}: {error}", NEXT) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no TOML: {error}", NEXT) from error
