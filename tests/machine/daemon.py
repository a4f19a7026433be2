"""A daemon that a test can kill: boots, attests, releases, and then waits for ever.

Arguments: folder, image tar, image ID, lease seconds, the function's code. Prints one line: the
resume record and the TaskSpec in hexadecimal.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.machine.support import Pi


async def main(folder: str, image: str, image_id: str, lease: str, code: str) -> None:
    pi = Pi(Path(folder), bytes.fromhex(image_id), Path(image), int(lease))
    job = pi.job(code)
    pi.keep_blocks()
    session = await pi.machine.boot(1)
    await pi.prepare(job)
    await pi.release_all(job, session, (await pi.ask(job)).root)
    sys.stdout.write(f"{session.resume.hex()} {job.spec.encode().hex()}\n")
    sys.stdout.flush()
    await asyncio.sleep(3600)


asyncio.run(main(*sys.argv[1:]))
