"""A stand-in for a Zymkey, for tests and `sealrun demo --root zymkey`. SIMULATED, and it says so.

Three parts. `library/` is C of our own that has every name of Zymbit's libzk_app_utils.so which the
real Python binding (zku) asks for; it holds no key and only passes on. `keys` and `serve` are the
process behind it that does. `control` builds the one, starts the other, and makes faults.

Its model begins with ``SEALRUN STAND-IN``, which is how a node knows that its root is simulated.
That is no proof of the contrary: another library could claim to be anything.
"""
