# pragma version 0.4.3
"""
@title Votes of a committee
@license Apache-2.0
@notice EIP-712 votes with EIP-2098 compact signatures, counted by a bitmap over seats.
@dev    A vote names task, phase, attempt, header, verdict and its last valid block, and the domain
        names chain and ledger: it counts nowhere else. A seat has one bit, so nobody votes
        twice. `ecrecover` returns the zero address on failure, which sits in no committee, and
        s above N/2 is refused, so that a vote has one signature.
"""
from ..interfaces import IAttestationLedger

# The largest committee.
MAX_SEATS: constant(uint256) = 11
DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
VOTE_TYPE: constant(bytes32) = keccak256(
    "Vote(uint256 task,uint8 phase,uint8 attempt,bytes32 header,uint8 verdict,uint64 validUntil)"
)
NAME: constant(bytes32) = keccak256("sealrun")
VERSION: constant(bytes32) = keccak256("1")
# Half the order of secp256k1 (EIP-2).
HALF_N: constant(uint256) = (
    57896044618658097711785492504343953926418782139537452191302581570759080747168
)


@internal
@view
def digest(ledger: address, vote: IAttestationLedger.Vote) -> bytes32:
    """
    @notice The EIP-712 digest of a vote to a ledger on this chain.
    @dev The domain is computed anew: an immutable would outlive a fork of the chain.
    @param ledger The `AttestationLedger`, in whose name members vote.
    @param vote The vote.
    @return What the member signed.
    """
    domain: bytes32 = keccak256(abi_encode(DOMAIN_TYPE, NAME, VERSION, chain.id, ledger))
    message: bytes32 = keccak256(
        abi_encode(
            VOTE_TYPE,
            vote.task,
            vote.phase,
            vote.attempt,
            vote.header,
            vote.verdict,
            vote.valid_until,
        )
    )
    return keccak256(concat(x"1901", domain, message))


@internal
@view
def signer(signed: bytes32, signature: IAttestationLedger.Signature) -> address:
    """
    @notice Who signed a digest.
    @param signed The digest.
    @param signature EIP-2098: r, and s with the parity of y in its highest bit.
    @return The signer; reverts for a malleable signature and for none.
    """
    s: uint256 = signature.vs & (2**255 - 1)
    assert s <= HALF_N, "votes: malleable signature"
    who: address = ecrecover(signed, (signature.vs >> 255) + 27, signature.r, s)
    assert who != empty(address), "votes: no signature"
    return who


@internal
@view
def count(
    signed: bytes32,
    committee: DynArray[address, MAX_SEATS],
    voters: uint256,
    signatures: DynArray[IAttestationLedger.Signature, MAX_SEATS],
) -> uint256:
    """
    @notice Counts the votes of a ballot; one bad vote reverts the whole.
    @param signed The digest that each voter signed.
    @param committee The members by seat.
    @param voters Bitmap of the seats that voted.
    @param signatures One for each set bit, in ascending order of seats.
    @return The number of votes.
    """
    assert voters >> len(committee) == 0, "votes: no such seat"
    number: uint256 = 0
    for seat: uint256 in range(len(committee), bound=MAX_SEATS):
        if (voters >> seat) & 1 == 1:
            assert number < len(signatures), "votes: signature missing"
            assert (
                self.signer(signed, signatures[number]) == committee[seat]
            ), "votes: signer does not hold the seat"
            number = unsafe_add(number, 1)
    assert number == len(signatures), "votes: more signatures than seats"
    return number
