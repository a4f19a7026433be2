"""What a TPM vouches with, read once: the parts that parse, and what is wrong with the others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from agent.formats.evidence import Evidence
from agent.formats.quote import QUOTED_PCRS, Quote
from nodeclient.core import claims
from nodeclient.core.reasons import Code, Reason, reason
from nodeclient.core.tpm import ima
from nodeclient.core.tpm.attest import ALG_SHA256, Attested, parse_attest
from nodeclient.core.tpm.event_log import EventLog, parse_event_log
from nodeclient.core.tpm.facts import TpmFacts, firmware_digest
from nodeclient.core.tpm.public import AttestationKey, parse_attestation_key
from nodeclient.core.tpm.reader import TpmError

SELECTION = ((ALG_SHA256, QUOTED_PCRS),)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Material:
    """``faults`` names each part that is None because it could not be read.

    ``covered``: how many entries of the IMA list the quote covers; None if event log and list do
    not replay to the quoted PCRs at all.
    """

    quote: Quote
    attested: Attested | None
    key: AttestationKey | None
    log: EventLog | None
    ima: tuple[ima.Entry, ...] | None
    covered: int | None
    faults: tuple[Reason, ...]

    def facts(self) -> TpmFacts:
        """What to remember. Raises TpmError for material that does not parse."""
        if self.attested is None or self.key is None or self.log is None:
            raise TpmError("quote: nothing to remember of one that does not parse")
        clock = self.attested.clock
        firmware = firmware_digest(self.log)
        return TpmFacts(self.key.digest, firmware, clock.resets, clock.restarts, clock.time_ms)


def read_material(evidence: Evidence) -> Material:
    """Read claims ``quote``, ``event_log`` and ``ima``. Raises FormatError if one is missing."""
    quote = claims.quote(evidence)
    faults: list[Reason] = []

    def attempt(parse: Callable[[bytes], T], data: bytes, code: Code) -> T | None:
        try:
            return parse(data)
        except TpmError as error:
            faults.append(reason(code, str(error)))
            return None

    attested = attempt(parse_attest, quote.attest, Code.QUOTE)
    key = attempt(parse_attestation_key, quote.ak, Code.ATTESTATION_KEY)
    log = attempt(parse_event_log, claims.log(evidence, "event_log"), Code.EVENT_LOG)
    entries = attempt(ima.parse_ima, claims.log(evidence, "ima"), Code.IMA)
    covered = None
    if attested is not None and log is not None and entries is not None:
        covered = count_covered(attested, log, entries)
    return Material(quote, attested, key, log, entries, covered, tuple(faults))


def count_covered(attested: Attested, log: EventLog, entries: tuple[ima.Entry, ...]) -> int | None:
    """How many IMA entries lead, with the log, to the quoted digest; None if no number does.

    The longest prefix is tried first: an honest list grew by a few entries at most since the quote.
    """
    values = log.values
    lists = ima.replay(entries, values[ima.PCR])
    before = hashlib.sha256(b"".join(values[pcr] for pcr in QUOTED_PCRS if pcr < ima.PCR))
    after = b"".join(values[pcr] for pcr in QUOTED_PCRS if pcr > ima.PCR)
    for count in range(len(entries), -1, -1):
        whole = before.copy()
        whole.update(lists[count] + after)
        if whole.digest() == attested.pcr_digest:
            return count
    return None
