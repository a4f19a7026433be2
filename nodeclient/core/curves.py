"""Short Weierstrass curves of prime order, for the two ECVRF suites of the project.

Two kinds of arithmetic live here, and which one may touch a secret is the point of the file:

* `Curve.combine` multiplies PUBLIC points by PUBLIC scalars in plain Python. Its running time
  depends on the scalars. Verification and witnesses use it.
* `secret_multiple` and `secret_to_public` multiply by a SECRET scalar inside OpenSSL (through
  `cryptography`), whose elliptic curve code runs in time independent of the scalar.

Points are affine `(x, y)` tuples of integers; `None` is the point at infinity.
Sources: SEC 1 v2 §2.3 (encodings), SEC 2 v2 §2.4 (parameters), EFD "jacobian" formulas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

Point = tuple[int, int]
_Jacobian = tuple[int, int, int]
_INFINITY: Final[_Jacobian] = (1, 1, 0)


@dataclass(frozen=True, slots=True)
class Curve:
    """y² = x³ + ax + b over the prime field p, prime order n, p ≡ 3 (mod 4)."""

    name: str
    p: int
    a: int
    b: int
    n: int
    generator: Point

    def is_on_curve(self, x: int, y: int) -> bool:
        """Whether (x, y) is an affine point with reduced coordinates."""
        in_field = 0 <= x < self.p and 0 <= y < self.p
        return in_field and (y * y - self.right_side(x)) % self.p == 0

    def right_side(self, x: int) -> int:
        """x³ + ax + b mod p: the square that y must root."""
        return (pow(x, 3, self.p) + self.a * x + self.b) % self.p

    def square_root(self, value: int) -> int | None:
        """A square root of `value` mod p, or None for a non-residue."""
        root = pow(value, (self.p + 1) // 4, self.p)
        return root if root * root % self.p == value % self.p else None

    def decompress(self, prefix: int, x: int) -> Point | None:
        """SEC 1 §2.3.4 for a compressed point; None if there is no such point."""
        if prefix not in (2, 3) or not 0 <= x < self.p:
            return None
        y = self.square_root(self.right_side(x))
        if y is None:
            return None
        return x, (y if y & 1 == prefix & 1 else self.p - y)

    def negate(self, point: Point) -> Point:
        """-point."""
        return point[0], -point[1] % self.p

    def add(self, left: Point | None, right: Point | None) -> Point | None:
        """left + right. Public points only."""
        return self._affine(self._add(_lift(left), _lift(right)))

    def combine(self, *terms: tuple[int, Point]) -> Point | None:
        """Sum of scalar·point over `terms`. NOT constant time: public scalars only."""
        total = _INFINITY
        for scalar, point in terms:
            product = _INFINITY
            for bit in bin(scalar % self.n)[2:]:
                product = self._double(product)
                if bit == "1":
                    product = self._add(product, _lift(point))
            total = self._add(total, product)
        return self._affine(total)

    def _affine(self, point: _Jacobian) -> Point | None:
        x, y, z = point
        if z == 0:
            return None
        inverse = pow(z, -1, self.p)
        return x * inverse**2 % self.p, y * inverse**3 % self.p

    def _double(self, point: _Jacobian) -> _Jacobian:
        x, y, z = point
        if z == 0:  # the order is odd, so no point has y = 0
            return _INFINITY
        p = self.p
        y_squared = y * y % p
        s = 4 * x * y_squared % p
        m = (3 * x * x + self.a * pow(z, 4, p)) % p
        x_new = (m * m - 2 * s) % p
        return x_new, (m * (s - x_new) - 8 * y_squared * y_squared) % p, 2 * y * z % p

    def _add(self, left: _Jacobian, right: _Jacobian) -> _Jacobian:
        if left[2] == 0:
            return right
        if right[2] == 0:
            return left
        p = self.p
        left_z2, right_z2 = left[2] ** 2 % p, right[2] ** 2 % p
        u1, u2 = left[0] * right_z2 % p, right[0] * left_z2 % p
        s1, s2 = left[1] * right_z2 * right[2] % p, right[1] * left_z2 * left[2] % p
        if u1 == u2:
            return self._double(left) if s1 == s2 else _INFINITY
        h, r = u2 - u1, s2 - s1
        h2 = h * h % p
        h3, v = h2 * h % p, u1 * h2 % p
        x = (r * r - h3 - 2 * v) % p
        return x, (r * (v - x) - s1 * h3) % p, h * left[2] * right[2] % p


def _lift(point: Point | None) -> _Jacobian:
    return _INFINITY if point is None else (point[0], point[1], 1)


def compress(point: Point) -> bytes:
    """SEC 1 §2.3.3 compressed encoding, 33 bytes."""
    return bytes((2 | point[1] & 1,)) + point[0].to_bytes(32, "big")


def _openssl(curve: Curve) -> ec.EllipticCurve:
    return {"P-256": ec.SECP256R1, "secp256k1": ec.SECP256K1}[curve.name]()


def secret_to_public(curve: Curve, secret: int) -> Point:
    """secret·generator in constant time; `secret` in [1, n)."""
    numbers = ec.derive_private_key(secret, _openssl(curve)).public_key().public_numbers()
    return numbers.x, numbers.y


def secret_multiple(curve: Curve, secret: int, point: Point) -> Point:
    """secret·point in constant time; `secret` in [1, n), `point` on the curve.

    OpenSSL's ECDH gives only the x of the product. Its sign is settled with a second ECDH:
    of the two candidates ±Q, only Q + point has the x of (secret + 1)·point. The candidates are
    public values here (Gamma and V of a proof), so the comparison may take any time.
    """
    if secret == curve.n - 1:
        return curve.negate(point)  # (secret + 1)·point would be infinity
    candidate = curve.decompress(2, _shared_x(curve, secret, point))
    if candidate is None:
        raise ArithmeticError(f"ecvrf: ECDH on {curve.name} gave no curve point; check OpenSSL")
    next_x = _shared_x(curve, secret + 1, point)
    for product in (candidate, curve.negate(candidate)):
        total = curve.add(product, point)
        if total is not None and total[0] == next_x:
            return product
    raise ArithmeticError(f"ecvrf: ECDH on {curve.name} is inconsistent; check OpenSSL")


def _shared_x(curve: Curve, secret: int, point: Point) -> int:
    private = ec.derive_private_key(secret, _openssl(curve))
    public = ec.EllipticCurvePublicNumbers(point[0], point[1], _openssl(curve)).public_key()
    return int.from_bytes(private.exchange(ec.ECDH(), public), "big")


P256: Final = Curve(
    name="P-256",
    p=2**256 - 2**224 + 2**192 + 2**96 - 1,
    a=-3,
    b=0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    n=0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    generator=(
        0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
        0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    ),
)

SECP256K1: Final = Curve(
    name="secp256k1",
    p=2**256 - 2**32 - 977,
    a=0,
    b=7,
    n=0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    generator=(
        0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
        0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
    ),
)
