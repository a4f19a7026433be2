"""What the Pi boots, measured before it starts: the reference value of the boot image."""

from pathlib import Path

import agent
from agent.formats.measure import measure_tree


def agent_folder() -> Path:
    """Where this release's Agent lies."""
    return Path(agent.__file__).parent


def measure_agent(folder: Path | None = None) -> bytes:
    """SHA-256 (32 bytes) over the Agent's sorted tree: the BOOT image of the embedded profile."""
    return measure_tree(agent_folder() if folder is None else folder)
