"""After the run: what came out, that the run was watched, and that nothing of it is left."""

from __future__ import annotations

from collections.abc import Iterator

from agent.formats.cbor import FormatError
from agent.formats.messages import Context, Ending, Outcome, Transcript
from nodeclient.core import claims
from nodeclient.core.checks.case import Case, Finding, not_checked, note
from nodeclient.core.checks.task import SHARED_ENGINE
from nodeclient.core.evidence_policy import ERASED_QUOTED
from nodeclient.core.reasons import Code, reason

CLOCK_SLACK = 5_000  # milliseconds: rounding, and two clocks that run at different speeds
_IMAGES, _IMAGES_IN_USE = "images", "images_in_use"


def residue(case: Case) -> Iterator[Finding]:
    """The fresh boot knows nothing of the task."""
    image, present = claims.runtime(case.evidence)
    cid, digest = claims.function(case.evidence)
    policy, _ = claims.network(case.evidence)
    left = (
        ("a runtime image", image is not None or present),
        ("a function", cid is not None or digest is not None),
        ("an allow-list", bool(policy)),
        ("a passed device", bool(claims.devices(case.evidence))),
    )
    for what, is_left in left:
        if is_left:
            yield reason(Code.RESIDUE, f"{what} of the task is still there")


def erasure(case: Case) -> Iterator[Finding]:
    """The session that ran the task signed, as its last act, that it removed everything."""
    transcript, before = _transcript(case), case.expected.before
    if transcript is None:
        yield reason(Code.ERASURE, "no transcript that the session it names signed")
        return
    if before is None:
        yield reason(Code.ERASURE, "nothing of the BEFORE evidence to know the old session by")
    elif (transcript.hpke, transcript.signing) != (before.hpke, before.signing):
        yield reason(Code.ERASURE, "signed by another session than the one that ran the task")
    said = Context.from_body(case.evidence.claim("chain"))
    if not said.same_task(transcript.context):
        yield reason(Code.ERASURE, "speaks of another task")
    yield from _checked(case, transcript)


def _checked(case: Case, transcript: Transcript) -> Iterator[Finding]:
    """Every kind of thing was looked for and not found."""
    shared = SHARED_ENGINE in claims.simulated(case.evidence)
    before = case.expected.before
    quoted = case.material is not None or (before is not None and before.tpm is not None)
    wanted = case.policy.erased | (ERASED_QUOTED if quoted else frozenset())
    for name in sorted(wanted | set(transcript.checked)):
        in_use = name == _IMAGES and transcript.removed.get(_IMAGES_IN_USE, 0) > 0
        if name == _IMAGES and shared and (in_use or name not in transcript.checked):
            # The image may be older than the task, or another's. Whether it may is policy.
            yield not_checked("removal of the runtime image (the engine is shared)")
        elif in_use or transcript.checked.get(name) is not True:
            yield reason(Code.ERASURE, f"does not show that no {name} are left")


def outcome(case: Case) -> Iterator[Finding]:
    """How the run ended is stated, as the old session signed it; results are for the receivers."""
    stated = case.evidence.claim("outcome")
    if stated is None:
        yield reason(Code.OUTCOME, "no outcome is stated")
        return
    result = Outcome.from_body(stated)
    transcript = _transcript(case)
    if transcript is not None and transcript.outcome != result:
        yield reason(Code.OUTCOME, "not the outcome that the session of the run signed")
    if (result.status is Ending.RAN) != (result.exit_code is not None):
        yield reason(Code.OUTCOME, "an exit code belongs to a function that ran, and to no other")
    receivers = {receiver.name for receiver in case.expected.spec.receivers}
    if set(result.results) - receivers:
        yield reason(Code.RESULTS, "a result for somebody whom the task does not name")
    if result.status is Ending.RAN and receivers - set(result.results):
        yield reason(Code.RESULTS, "a receiver of the task has no result")
    missing = set(result.results.values()) - case.expected.fetched
    if missing:
        yield reason(Code.RESULTS, f"{len(missing)} results could not be fetched")
    yield note(f"outcome {result.status.value}, exit code {result.exit_code}")


def during(case: Case) -> Iterator[Finding]:
    """Enough answers, all signed for by the old session, all of the asker's own among them."""
    expected = case.expected
    listed = claims.during(case.evidence)
    transcript = _transcript(case)
    pairs = [(nonce, root) for _, nonce, root in listed]
    nonces = {nonce for nonce, _ in pairs}
    if len(nonces) != len(pairs):
        yield reason(Code.DURING, "an answer is listed twice")
    if len(nonces) < case.policy.least_answers:
        text = f"{len(nonces)} answers, at least {case.policy.least_answers} wanted"
        yield reason(Code.DURING, text)
    if transcript is not None and not set(pairs) <= set(transcript.answers):
        yield reason(Code.DURING, "lists an answer that the session of the run did not sign for")
    if expected.committee and any(member not in expected.committee for member, _, _ in listed):
        yield reason(Code.DURING, "lists an answer to somebody outside the committee")
    if expected.member is None:
        return
    mine = {(nonce, root) for member, nonce, root in listed if member == expected.member}
    if not mine:
        # Answers to others may be answers to whoever is on the Executor's side.
        yield reason(Code.DURING, "no answer to the asker")
    yield from _let_ask(case, transcript)
    if set(expected.answers) - mine:
        yield reason(Code.DURING, "an answer to the asker is missing or has another root")
    known = expected.asked | {nonce for nonce, _ in expected.answers}
    if any(nonce not in known for nonce, _ in mine):
        yield reason(Code.DURING, "lists a question that the asker never asked")


def _let_ask(case: Case, transcript: Transcript | None) -> Iterator[Finding]:
    """The run was not longer than the time in which the asker's questions were answered."""
    ran, longest = transcript.outcome if transcript is not None else None, case.expected.longest
    if longest is None:
        yield not_checked("that questions were answered for as long as it ran (never declined)")
    elif ran is not None and ran.seconds * 1000 > longest + CLOCK_SLACK:
        text = f"it ran for {ran.seconds} s; the asker was let ask for {longest // 1000} s of it"
        yield reason(Code.DURING, text)


def _transcript(case: Case) -> Transcript | None:
    """The erasure transcript; None if it is no transcript or not signed (``erasure`` refuses)."""
    try:
        return Transcript.open(claims.erasure(case.evidence))
    except FormatError:
        return None
