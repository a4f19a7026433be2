# pragma version 0.4.3
"""
@title What makes an attestation record
@license Apache-2.0
@notice Checks the header that a node's hardware root signed, and the votes of its committee.
@dev    AN AFFIRMING RECORD NEEDS TWO THINGS: a header signed by the hardware root of the executor's
        node (P-256), and a quorum of votes for the digest of exactly that header. A contraindicated
        record needs the quorum only: a node that answers nothing signs no header.

        Roots sign and members vote in the name of one ledger on one chain, which stand in each
        digest. Every word of a header is static, so that no length is ambiguous.
"""
from ..interfaces import IAttestationLedger
from . import p256_signature as p256
from . import votes

uses: p256

HEADER_DOMAIN: constant(bytes32) = keccak256("sealrun/attestation-header/v1")


@internal
@view
def signed_header(
    ledger: address, header: IAttestationLedger.Header, x: uint256, y: uint256
) -> bytes32:
    """
    @notice Reverts unless the root signed the header.
    @param ledger The `AttestationLedger`.
    @param header The header; r and s are not part of what is signed.
    @param x The root key's x.
    @param y The root key's y.
    @return Its digest (SHA-256).
    """
    digest: bytes32 = sha256(
        abi_encode(
            HEADER_DOMAIN,
            chain.id,
            ledger,
            header.task,
            header.commitment,
            header.node,
            header.phase,
            header.attempt,
            header.nonce_root,
            header.evidence_root,
            header.session_key_hash,
        )
    )
    assert p256.verify(
        digest, header.r, header.s, x, y
    ), "attestation: not signed by the node's root"
    return digest


@internal
@view
def count(
    ledger: address,
    vote: IAttestationLedger.Vote,
    quorum: uint256,
    committee: DynArray[address, 11],
    ballot: IAttestationLedger.Ballot,
) -> uint256:
    """
    @notice Counts a ballot; reverts below the quorum, after the votes' last block, and for any bad
            vote.
    @param ledger The `AttestationLedger`.
    @param vote What all of them signed.
    @param quorum Votes needed.
    @param committee The members by seat.
    @param ballot The votes.
    @return The number of votes.
    """
    assert convert(vote.valid_until, uint256) >= block.number, "attestation: votes are out of date"
    number: uint256 = votes.count(
        votes.digest(ledger, vote), committee, ballot.voters, ballot.signatures
    )
    assert number >= quorum, "attestation: no quorum"
    return number
