# pragma version 0.4.3
"""
@title ECVRF-SECP256K1-SHA256-TAI verification with witnesses
@license Apache-2.0
@notice Checks an RFC 9381 proof (try-and-increment, SHA-256) on secp256k1 and returns the VRF
        output beta. The RFC registers no suite for this curve; the project uses octet 0xFE.
        `nodeclient/core/ecvrf.py` is the reference, `nodeclient/core/vrf_witness.py` builds
        the `Proof`.
@dev    The EVM has no secp256k1 arithmetic, so each costly operation is replaced by a value
        that the prover supplies and that costs little to check.

        WHAT MUST HOLD (RFC 9381 §5.3; B the generator, Y the key, G = Gamma, cofactor 1)
            H = encode_to_curve(Y, alpha)   U = s*B - c*Y   V = s*H - c*G
            c == SHA-256(0xFE 02 | Y | H | G | U | V | 00)[:16]
            beta = SHA-256(0xFE 03 | G | 00)

        WHY EACH WITNESS IS SAFE
        - U, sH and cG. `ecrecover(e, v, r, t)` is the address of r^-1 * (t*R - e*B), R being the
          curve point with x = r and the parity of v. So
              e = -s*x(Y), t = c*x(Y), R = -Y   gives the address of U,
              e = 0, t = s*x(H), R = H          gives the address of sH,
              e = 0, t = c*x(G), R = G          gives the address of cG.
          The supplied coordinates must hash to that address. Coordinates are hashed as raw words,
          so a value that is not reduced mod P does not pass. To pass with any other point, a
          prover must hit a given 160-bit address with Keccak: each try has its own c, since c
          hashes the points, so tries cannot be pooled into a birthday search. 2^160 is beyond
          the 2^128 that the RFC's own 128-bit challenge leaves.
        - ecrecover also does the decompression: for an x that is on no curve point, for x = 0
          and for a zero scalar it returns the zero address, which no supplied point hashes to
          (again 160 bits). So Y, G and H are on the curve, and no y of theirs is needed:
          the suite hashes compressed points. The group has prime order: on the curve means full
          order, there is no point of low order, and RFC 9381's key validation asks for no more.
        - V. With slope*(x(sH) - x(cG)) = y(sH) + y(cG) and x(sH) != x(cG), the chord through sH
          and -cG gives V by the addition law; the slope is unique mod P.
        - roots. H is defined by the FIRST counter whose hash is the x of a curve point. Were the
          counter only supplied, a prover could pick among about 128 values of H, hence of beta.
          So every counter before it must be shown invalid: with w^2 = -(x^3 + 7) mod P, where
          -1 is a non-residue (P = 3 mod 4) and x^3 + 7 is never 0 on this curve (the order is
          odd), x^3 + 7 has no root: x is on no point. Where x >= P, the RFC's string_to_point
          refuses x by itself, so the comparison is the proof and the word must be 0. The word
          count IS the counter: one missing makes an invalid x the last one (ecrecover gives 0),
          one too many would need a root that does not exist.

        NOT COVERED, FAILS CLOSED: ecrecover takes x only below the group order, so a Y, H or G
        with x in [N, P) is refused (2^-128), and so are s = 0, c = 0, sH = +-cG and more than 40
        rejected counters (2^-40). None of these can be brought about to gain anything.

        A proof's bytes are malleable (w and P - w both prove); beta is not. Nothing may use the
        proof's bytes as an identity.
"""

struct Proof:
    gamma_x: uint256
    gamma_prefix: uint256
    c: uint256
    s: uint256
    slope: uint256
    u_x: uint256
    u_y: uint256
    sh_x: uint256
    sh_y: uint256
    cg_x: uint256
    cg_y: uint256
    roots: DynArray[uint256, 40]


# Field prime and group order of secp256k1 (SEC 2, §2.4.1).
P: constant(uint256) = (
    115792089237316195423570985008687907853269984665640564039457584007908834671663
)
N: constant(uint256) = (
    115792089237316195423570985008687907852837564279074904382605163141518161494337
)

# Suite octet and domain separators (RFC 9381 §5.4.1.1, §5.4.3, §5.2) at the top of a word:
# 0xFE01, 0xFE02 and 0xFE03 (Vyper reads a hex literal as bytes, hence decimals).
ENCODE_FRONT: constant(uint256) = 65025 * 2**240
CHALLENGE_FRONT: constant(uint256) = 65026 * 2**240
HASH_FRONT: constant(uint256) = 65027 * 2**240


@internal
@pure
def verify(
    public_x: uint256, public_prefix: uint256, alpha: bytes32, proof: Proof
) -> bytes32:
    """
    @notice Verifies `proof` of the key over `alpha`; reverts "ecvrf: ..." if it does not hold.
    @param public_x x of the prover's compressed key Y.
    @param public_prefix SEC 1 prefix of Y: 2 (even y) or 3 (odd y).
    @param alpha The VRF input.
    @param proof Gamma, c, s and the witnesses explained above.
    @return beta, the 32-byte VRF output, fixed by the key and alpha alone.
    """
    # s and s + N would be two encodings of one proof. c is bounded by the last comparison, and
    # a prefix other than 2 or 3 makes a v that ecrecover refuses.
    assert proof.s < N, "ecvrf: s out of range"

    # encode_to_curve: SHA-256(FE 01 | Y | alpha | counter | 00), 69 bytes in 3 pieces
    key: uint256 = (public_prefix << 232) | (public_x >> 24)
    head: bytes32 = convert(ENCODE_FRONT | key, bytes32)
    middle: bytes32 = convert((public_x << 232) | (convert(alpha, uint256) >> 24), bytes32)
    tail: uint40 = convert((convert(alpha, uint256) & (2**24 - 1)) << 16, uint40)
    for root: uint256 in proof.roots:
        x: uint256 = convert(sha256(concat(head, middle, convert(tail, bytes5))), uint256)
        # w^2 + x^3 == -7, the usual case, is tested first: it is an expensive loop
        if uint256_addmod(
            uint256_mulmod(root, root, P), uint256_mulmod(uint256_mulmod(x, x, P), x, P), P
        ) != P - 7:
            assert x >= P and root == 0, "ecvrf: counter not proved invalid"
        tail = unsafe_add(tail, 256)  # the counter is the last byte but one; 40 cannot carry
    h_x: uint256 = convert(sha256(concat(head, middle, convert(tail, bytes5))), uint256)

    # U = s*B - c*Y; 30 - prefix is the v of -Y
    assert (
        convert(
            ecrecover(
                convert(unsafe_sub(N, uint256_mulmod(proof.s, public_x, N)), bytes32),
                unsafe_sub(30, public_prefix),
                public_x,
                uint256_mulmod(proof.c, public_x, N),
            ),
            uint256,
        )
        ^ convert(keccak256(abi_encode(proof.u_x, proof.u_y)), uint256)
    ) << 96 == 0, "ecvrf: U"
    # s*H; the suite's H always has an even y
    assert (
        convert(
            ecrecover(empty(bytes32), 27, h_x, uint256_mulmod(proof.s, h_x, N)), uint256
        )
        ^ convert(keccak256(abi_encode(proof.sh_x, proof.sh_y)), uint256)
    ) << 96 == 0, "ecvrf: sH"
    # c*Gamma
    assert (
        convert(
            ecrecover(
                empty(bytes32),
                unsafe_add(proof.gamma_prefix, 25),
                proof.gamma_x,
                uint256_mulmod(proof.c, proof.gamma_x, N),
            ),
            uint256,
        )
        ^ convert(keccak256(abi_encode(proof.cg_x, proof.cg_y)), uint256)
    ) << 96 == 0, "ecvrf: cGamma"

    # V = sH + (-cG). All four coordinates are below P: they hashed to a real point's address.
    assert proof.sh_x != proof.cg_x, "ecvrf: chord is vertical"
    assert uint256_mulmod(
        proof.slope, uint256_addmod(proof.sh_x, unsafe_sub(P, proof.cg_x), P), P
    ) == uint256_addmod(proof.sh_y, proof.cg_y, P), "ecvrf: slope"
    v_x: uint256 = uint256_addmod(
        uint256_mulmod(proof.slope, proof.slope, P),
        unsafe_sub(P, uint256_addmod(proof.sh_x, proof.cg_x, P)),
        P,
    )
    v_y: uint256 = uint256_addmod(
        uint256_mulmod(proof.slope, uint256_addmod(proof.sh_x, unsafe_sub(P, v_x), P), P),
        unsafe_sub(P, proof.sh_y),
        P,
    )

    # SHA-256(FE 02 | Y | H | Gamma | U | V | 00), 168 bytes shifted into 5 words and 8 bytes
    challenge: bytes32 = sha256(
        concat(
            convert(CHALLENGE_FRONT | key, bytes32),
            convert((public_x << 232) | (2 << 224) | (h_x >> 32), bytes32),
            convert((h_x << 224) | (proof.gamma_prefix << 216) | (proof.gamma_x >> 40), bytes32),
            convert(
                (proof.gamma_x << 216) | (((proof.u_y & 1) | 2) << 208) | (proof.u_x >> 48),
                bytes32,
            ),
            convert((proof.u_x << 208) | (((v_y & 1) | 2) << 200) | (v_x >> 56), bytes32),
            convert(convert((v_x & (2**56 - 1)) << 8, uint64), bytes8),
        )
    )
    assert proof.c == convert(challenge, uint256) >> 128, "ecvrf: challenge"

    # beta = SHA-256(FE 03 | Gamma | 00)
    return sha256(
        concat(
            convert(HASH_FRONT | (proof.gamma_prefix << 232) | (proof.gamma_x >> 24), bytes32),
            convert(convert((proof.gamma_x & (2**24 - 1)) << 8, uint32), bytes4),
        )
    )
