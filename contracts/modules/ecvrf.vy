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

        alpha has 27 bytes: what is hashed for a counter is then exactly two words.

        WHY EACH WITNESS IS SAFE
        - c is not supplied but computed from the points, so the comparison above holds by
          construction; what remains is that U and V are the points that this c asks for.
        - U, sH and cG. `ecrecover(e, v, r, t)` is the address of r^-1 * (t*R - e*B), R being the
          curve point with x = r and the parity of v. So
              e = s*x(Y), t = c*x(Y), R = Y     gives the address of -U,
              e = 0, t = s*x(H), R = H          gives the address of sH,
              e = 0, t = c*x(G), R = G          gives the address of cG.
          The coordinates must hash to that address. The x are hashed as raw words, so a value
          that is not reduced mod P does not pass. To pass with any other point, a prover must hit
          a given 160-bit address with Keccak: each try has its own c, since c hashes the points,
          so tries cannot be pooled into a birthday search. 2^160 is beyond the 2^128 that the
          RFC's own 128-bit challenge leaves.
        - U on the curve. c hashes of U its x and one bit of its y. Were the rest of y free, one
          table of 2^80 hashes of one x would serve every c: a birthday search after all, of 2^81
          work for any Gamma. The curve leaves one y for that bit. For the points of the line the
          y follow from x(V), which c hashes, and from cG or sH, which c changes: no table.
        - ecrecover also does the decompression: for an x that is on no curve point, for x = 0
          and for a zero scalar it returns the zero address, which no supplied point hashes to
          (again 160 bits). So Y, G and H are on the curve, and no y of theirs is needed:
          the suite hashes compressed points. The group has prime order: on the curve means full
          order, there is no point of low order, and RFC 9381's key validation asks for no more.
        - V. Three points of one line sum to zero. The line y = slope*x + offset is supplied in
          place of the y of sH and of cG: with the y that it gives, -sH and cG pass the test above,
          so both lie on it, and its third point is sH - cG = V. Where -sH and cG are one point,
          the slope would be the prover's choice, and V with it; but s = -c*log_H(G) and
          U = s*B - c*Y then leave one c for each G and U, and each V gets its c from the hash:
          a guess of 128 bits, which is what the RFC's challenge leaves anyway.
        - roots. H is defined by the FIRST counter whose hash is the x of a curve point. Were the
          counter only supplied, a prover could pick among about 128 values of H, hence of beta.
          So every counter before it must be shown invalid: with w^2 = -(x^3 + 7) mod P, where
          -1 is a non-residue (P = 3 mod 4) and x^3 + 7 is never 0 on this curve (the order is
          odd), x^3 + 7 has no root: x is on no point. Where x >= P, the RFC's string_to_point
          refuses x by itself, so the comparison is the proof and the word must be 0. The word
          count IS the counter: one missing makes an invalid x the last one (ecrecover gives 0),
          one too many would need a root that does not exist.

        NOT COVERED, FAILS CLOSED: ecrecover takes x only below the group order, so a Y, H or G
        with x in [N, P) is refused (2^-128), and so are s = 0, c = 0, sH = cG, w^2 > P - 7 and
        more than 40 rejected counters (2^-40). None of these can be brought about to gain
        anything.

        A proof's bytes are malleable (w and P - w both prove); beta is not. Nothing may use the
        proof's bytes as an identity.
"""

# Rejected counters that can be proved; more come up once in 2^40 inputs.
MAX_ROOTS: constant(uint256) = 40


# gamma: Gamma, compressed. u: the point -U. sh_x, cg_x: of s*H and c*Gamma. slope, offset: the
# line through -s*H and c*Gamma.
struct Proof:
    gamma_x: uint256
    gamma_prefix: uint256
    s: uint256
    slope: uint256
    offset: uint256
    u_x: uint256
    u_y: uint256
    sh_x: uint256
    cg_x: uint256


# Field prime and group order of secp256k1 (SEC 2, §2.4.1).
P: constant(uint256) = (
    115792089237316195423570985008687907853269984665640564039457584007908834671663
)
N: constant(uint256) = (
    115792089237316195423570985008687907852837564279074904382605163141518161494337
)

# Suite octet and domain separators (RFC 9381 §5.4.1.1, §5.4.3, §5.2) at the top of a word:
# 0xFE01, one more for 0xFE02, and 0xFE03 (Vyper reads a hex literal as bytes, hence decimals).
ENCODE_FRONT: constant(uint256) = 65025 * 2**240
CHALLENGE_STEP: constant(uint256) = 2**240
HASH_FRONT: constant(uint256) = 65027 * 2**240


@internal
@pure
def verify(
    public_x: uint256,
    public_prefix: uint256,
    alpha: bytes32,
    proof: Proof,
    roots: DynArray[uint256, MAX_ROOTS],
) -> bytes32:
    """
    @notice Verifies `proof` of the key over `alpha`; reverts "ecvrf: ..." if it does not hold.
    @param public_x x of the prover's compressed key Y.
    @param public_prefix SEC 1 prefix of Y: 2 (even y) or 3 (odd y).
    @param alpha Its first 27 bytes are the VRF input.
    @param proof Gamma, s and the witnesses that the title explains.
    @param roots For each rejected counter, in order, the proof that it is invalid.
    @return beta, the 32-byte VRF output, fixed by the key and alpha alone.
    """
    # s and s + N would be two encodings of one proof.
    assert proof.s < N, "ecvrf: s out of range"

    # encode_to_curve: SHA-256(FE 01 | Y | alpha | counter | 00), exactly two words
    head: uint256 = ENCODE_FRONT | (public_prefix << 232) | (public_x >> 24)
    tail: uint256 = (public_x << 232) | ((convert(alpha, uint256) >> 40) << 16)
    for root: uint256 in roots:
        x: uint256 = convert(sha256(abi_encode(head, tail)), uint256)
        # x^3 == -7 - w^2, the usual case, is tested first: it is an expensive loop
        if uint256_mulmod(uint256_mulmod(x, x, P), x, P) != unsafe_sub(
            P - 7, uint256_mulmod(root, root, P)
        ):
            assert x >= P and root == 0, "ecvrf: counter not proved invalid"
        tail = unsafe_add(tail, 256)  # the counter is the last byte but one; 40 cannot carry
    h_x: uint256 = convert(sha256(abi_encode(head, tail)), uint256)

    # V, the third point of the line; any x not below P fails to hash to its address below
    v_x: uint256 = uint256_addmod(
        uint256_mulmod(proof.slope, proof.slope, P),
        unsafe_sub(P, uint256_addmod(proof.sh_x, proof.cg_x, P)),
        P,
    )

    # c = SHA-256(FE 02 | Y | H | Gamma | U | V | 00)[:16], 168 bytes of 6 words. -U has the other
    # parity than U, hence ^ 3.
    gamma: uint256 = (proof.gamma_prefix << 232) | (proof.gamma_x >> 24)
    c: uint256 = (
        convert(
            sha256(
                slice(
                    abi_encode(
                        unsafe_add(head, CHALLENGE_STEP),
                        (public_x << 232) | (2 << 224) | (h_x >> 32),
                        (h_x << 224) | (gamma >> 16),
                        (proof.gamma_x << 216) | (((proof.u_y & 1) ^ 3) << 208) | (proof.u_x >> 48),
                        (proof.u_x << 208)
                        | (
                            (
                                uint256_addmod(
                                    uint256_mulmod(proof.slope, v_x, P), proof.offset, P
                                )
                                & 1
                            )
                            | 2
                        )
                        << 200
                        | (v_x >> 56),
                        v_x << 200,
                    ),
                    0,
                    168,
                )
            ),
            uint256,
        )
        >> 128
    )

    # -U = c*Y - s*B, and on the curve; prefix + 25 is the v of Y
    assert (
        (
            convert(
                ecrecover(
                    convert(uint256_mulmod(proof.s, public_x, N), bytes32),
                    unsafe_add(public_prefix, 25),
                    public_x,
                    uint256_mulmod(c, public_x, N),
                ),
                uint256,
            )
            ^ convert(keccak256(abi_encode(proof.u_x, proof.u_y)), uint256)
        )
        << 96
    ) | (
        unsafe_sub(uint256_mulmod(proof.u_y, proof.u_y, P), 7)
        ^ uint256_mulmod(uint256_mulmod(proof.u_x, proof.u_x, P), proof.u_x, P)
    ) == 0, "ecvrf: U"
    # s*H, whose y is that of -s*H negated; the suite's H always has an even y
    assert (
        convert(
            ecrecover(empty(bytes32), 27, h_x, uint256_mulmod(proof.s, h_x, N)), uint256
        )
        ^ convert(
            keccak256(
                abi_encode(
                    proof.sh_x,
                    unsafe_sub(
                        P,
                        uint256_addmod(
                            uint256_mulmod(proof.slope, proof.sh_x, P), proof.offset, P
                        ),
                    ),
                )
            ),
            uint256,
        )
    ) << 96 == 0, "ecvrf: sH"
    # c*Gamma
    assert (
        convert(
            ecrecover(
                empty(bytes32),
                unsafe_add(proof.gamma_prefix, 25),
                proof.gamma_x,
                uint256_mulmod(c, proof.gamma_x, N),
            ),
            uint256,
        )
        ^ convert(
            keccak256(
                abi_encode(
                    proof.cg_x,
                    uint256_addmod(uint256_mulmod(proof.slope, proof.cg_x, P), proof.offset, P),
                )
            ),
            uint256,
        )
    ) << 96 == 0, "ecvrf: cGamma"

    # beta = SHA-256(FE 03 | Gamma | 00)
    return sha256(
        concat(
            convert(HASH_FRONT | gamma, bytes32),
            convert(convert(proof.gamma_x << 232, bytes32), bytes4),
        )
    )
