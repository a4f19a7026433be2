# pragma version 0.4.3
"""
@title Randomness of one fixed past block
@license Apache-2.0
@notice Returns the prevrandao of exactly the block asked for, whoever asks and whenever.
@dev    `block.prevrandao` is that of the block in which a transaction lands, so whoever sends (or
        includes) it could wait for a value that suits. Here the caller supplies the RLP-encoded
        header of block `number`, and Keccak-256 of it must be the hash of that block: BLOCKHASH
        tells it for the last 256 blocks, the EIP-2935 history contract for the last 8,191. That
        contract is written by the protocol itself and reverts outside them.

        WHY THE VALUE CANNOT BE CHOSEN
        - The hash fixes every byte of the header: a header of another block, a truncated or
          re-encoded one and trailing bytes all change it. So what is parsed is a header that
          consensus accepted, and the walk below meets canonical RLP of known shape. It is
          bounded and checks each step all the same: a future header layout must revert, never
          read the wrong field.
        - It is the mixHash field, which is prevrandao (EIP-4399), and not the block hash: the
          builder of a block can try thousands of hashes, but not one other prevrandao. What is
          left is the proposer's choice to skip the block, one bit at the price of a block.
        - A chain without the history contract answers with empty bytes: refused.

        TRUST. On a chain where prevrandao is constant or set by a sequencer this module gives no
        randomness that its operator could not choose; such a deployment brings its own module.
"""

# EIP-2935: the history storage contract, a constant of the protocol.
HISTORY: constant(address) = 0x0000F90827F1C53a10cb7A02335B175320002935
# How far BLOCKHASH looks back: the same hashes for 20 gas instead of 4,800.
HASHES: constant(uint256) = 256

# A header's list prefix (3 bytes: 0xf9 and a two-byte length), then fields of fixed size:
# parentHash, ommersHash (33 each), coinbase (21), three roots (33 each), logsBloom (259).
DIFFICULTY_AT: constant(uint256) = 3 + 2 * 33 + 21 + 3 * 33 + 259


@internal
@view
def prevrandao_of(number: uint256, block_header: Bytes[1024]) -> bytes32:
    """
    @notice The prevrandao of block `number`; reverts "entropy: ..." if it is not proved.
    @param number A block at most 8,191 before this one and not this one.
    @param block_header Its header as the protocol hashes it (RLP).
    @return The header's mixHash, which is the block's prevrandao.
    """
    expected: bytes32 = empty(bytes32)
    if number < block.number and unsafe_sub(block.number, number) <= HASHES:
        expected = blockhash(number)
    else:
        answered: bool = False
        answer: Bytes[32] = b""
        answered, answer = raw_call(
            HISTORY,
            abi_encode(number),
            max_outsize=32,
            is_static_call=True,
            revert_on_failure=False,
        )
        assert answered and len(answer) == 32, "entropy: block not in the history"
        expected = convert(answer, bytes32)
    # A hash that is not there is zero, which no header hashes to.
    assert expected == keccak256(block_header), "entropy: not the header"

    # From here on the bytes are authentic. `extract32` reverts outside them.
    assert convert(extract32(block_header, 0), uint256) >> 248 == 249, "entropy: header layout"
    # Since the merge difficulty is 0, one byte 0x80; before it mixHash was proof of work. Behind it
    # stand number, gasLimit, gasUsed and timestamp, RLP strings: a byte below 0x80 is its own value,
    # else 0x80 + length leads the string. With the first byte of extraData they fit this word as
    # long as they have 30 bytes together, twice what block numbers and times of ours need.
    word: uint256 = convert(extract32(block_header, DIFFICULTY_AT), uint256)
    assert word >> 248 == 128, "entropy: header layout"
    walked: uint256 = 1
    for _: uint256 in range(4):
        first: uint256 = (word << unsafe_mul(walked, 8)) >> 248
        walked = unsafe_add(walked, unsafe_sub(max(first, 128), 127))
    # A string of 56 bytes or more, whose length is written otherwise, ends beyond the word too.
    assert walked < 32, "entropy: header layout"
    extra: uint256 = (word << unsafe_mul(walked, 8)) >> 248
    assert extra < 184, "entropy: header layout"
    at: uint256 = unsafe_add(
        DIFFICULTY_AT, unsafe_add(walked, unsafe_sub(max(extra, 128), 127))
    )
    assert convert(extract32(block_header, at), uint256) >> 248 == 160, "entropy: header layout"
    return extract32(block_header, unsafe_add(at, 1))
