"""A real boot, as its kernel recorded it: our parsers read it, and our replay is the TPM's.

The kernel writes ``boot_aggregate`` from the PCRs 0 to 9 that it reads from the TPM itself, so that
the comparison with our replay of the log is one with a real TPM's values.
"""

from __future__ import annotations

from pathlib import Path

from agent.formats.hashes import sha256
from nodeclient.core.tpm import ima
from nodeclient.core.tpm.event_log import parse_event_log

DATA = Path(__file__).parent / "data"
LOG = (DATA / "ovmf-event-log.bin").read_bytes()
ENTRIES = ima.parse_ima((DATA / "ovmf-ima.bin").read_bytes())

# Of the image's manifest.
ROOT = "7cf58233b1cd2f33c0b931413eb8440f93ccda31722f299efcc2a1e3a10ec69b"
COMMAND_LINE = (
    "quiet loglevel=1 panic=-1 oops=panic init_on_alloc=1 init_on_free=1"
    " lsm=lockdown,yama,integrity lockdown=integrity apparmor=0 module.sig_enforce=1 slab_nomerge"
    f" vsyscall=none random.trust_cpu=off console=ttyS0 sealrun.root={ROOT}"
)
PCR4 = (
    "66d958804624182614eaf2609470d0e73fad440991be32557bd2ae088c2f102f",
    "fe1bfd69b8f653dd1d59e42793d7fe96aa4e6644a7cad4bc269510dc41409f7a",
)
PCR11 = (
    "0da293e37ad5511c59be47993769aacb91b243f7d010288e118dc90e95aaef5a",
    "d8808aa4ca188560da1e6d749dcb930c87a5fd8b11ebff1f3fa6d728af35203d",
    "3fb9e4e3cc810d4326b5c13cef18aee1f9df8c5f4f7f5b96665724fa3b846e08",
    "f837c877e962067bd10b0f6f0433ab4bb7bf56fe9c57e8549a556025573f12dd",
    "461203a89f23e36c3a4dc817f905b00484d2cf7e7d9376f13df91c41d84abe46",
    "cb8eb08b7ec69c5c1b6f654b5f33c68c9d21dce54df35121961f10ac50ff84f6",
    "15ee37e75f1e8d42080e91fdbbd2560780918c81fe3687ae6d15c472bbdaac75",
    "38e55a4d876ba765d7b3b315d4a5d7fb329e4d9f29c2b7d47a357af12aaa3a5e",
)
INITRD = PCR11[-1]


def test_capture__replayed__the_values_that_the_tpm_had() -> None:
    (entry,) = ENTRIES
    assert entry.path == ima.BOOT_AGGREGATE
    assert entry.digest == ima.boot_aggregate(parse_event_log(LOG).values)


def test_capture__one_digest_changed__no_longer_the_tpms_values() -> None:
    changed = LOG.replace(bytes.fromhex(PCR4[0]), bytes(32))
    assert changed != LOG
    assert ENTRIES[0].digest != ima.boot_aggregate(parse_event_log(changed).values)


def test_capture__boot_of_an_image__left_what_the_manifest_states() -> None:
    log = parse_event_log(LOG)
    calling, separator, *loaded = log.of(4)
    assert calling == sha256(b"Calling EFI Application from Boot Option")
    assert separator == sha256(bytes(4))
    assert [digest.hex() for digest in loaded] == list(PCR4)
    assert [digest.hex() for digest in log.of(11)] == list(PCR11)
    options = sha256((COMMAND_LINE + "\0").encode("utf-16-le"))
    assert log.of(9) == (options, bytes.fromhex(INITRD))
    assert log.of(2) == (separator,)
    assert log.of(12) + log.of(13) + log.of(14) == ()
