"""What a Zymkey says about itself, for those who admit a Node.

Nothing of it is proved. No maker's certificate shows that a slot's key lives in a Zymkey: whoever
vouches for such a Node has to have seen it. So a stand-in is told apart only by its honesty.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.formats import cbor
from agent.formats.cbor import FormatError
from agent.formats.shape import as_bytes, as_int, as_list, as_map, as_text, unique

STAND_IN = "SEALRUN STAND-IN"  # how the model of a simulated device begins
MOST_BYTES = 1024  # of an endorsement
# Only Zymbit's HSM family answers for its binding (zku 1.0.33, `get_current_binding_info`); the
# Zymkey line has nothing to ask. A name that says neither must answer: fail closed.
_SAYS_BINDING = ("hsm", "scm")
_SAYS_NO_BINDING = ("zymkey", "4i")
_TEXT = 128  # characters of model, firmware and serial number
_KEYS = ("kind", "serial", "model", "firmware", "public_key", "binding", "perimeter")


@dataclass(frozen=True, slots=True)
class Binding:
    """To its host. ``locked``: for good; ``bound``: to a host at all."""

    locked: bool
    bound: bool


@dataclass(frozen=True, slots=True)
class ZymkeyEndorsement:
    """``public_key``: X‖Y of slot 0, 64 bytes. ``binding``: None where the model does not say.
    ``perimeter``: the channels that the Node watches; none: an opened case stays unnoticed.
    """

    serial: str
    model: str
    firmware: str
    public_key: bytes
    binding: Binding | None
    perimeter: tuple[int, ...]

    @property
    def simulated(self) -> bool:
        """Whether it admits to be a stand-in. False proves nothing."""
        return self.model.startswith(STAND_IN)

    @property
    def can_be_silent_on_binding(self) -> bool:
        """Whether its model is one that has no binding state to tell."""
        name = self.model.lower()
        silent = any(each in name for each in _SAYS_NO_BINDING)
        return silent and not any(each in name for each in _SAYS_BINDING)

    def encode(self) -> bytes:
        """Deterministic CBOR. Raises FormatError for a text that is too long or no text."""
        for name in ("serial", "model", "firmware"):
            as_text(getattr(self, name), 0, _TEXT, name)
        binding = self.binding and [self.binding.locked, self.binding.bound]
        return cbor.encode(
            {
                "kind": "zymkey",
                "serial": self.serial,
                "model": self.model,
                "firmware": self.firmware,
                "public_key": self.public_key,
                "binding": binding,
                "perimeter": list(self.perimeter),
            }
        )


def parse_zymkey(data: bytes) -> ZymkeyEndorsement:
    """Read what another Node's root says. Raises FormatError."""
    said = as_map(cbor.decode(data, MOST_BYTES), _KEYS, "zymkey")
    if said["kind"] != "zymkey":
        raise FormatError("zymkey: the endorsement is of another kind; ask for the root's class")
    channels = [
        as_int(channel, 0, 1, "zymkey perimeter")
        for channel in as_list(said["perimeter"], 0, 2, "zymkey perimeter")
    ]
    unique(channels, "zymkey perimeter")
    return ZymkeyEndorsement(
        serial=as_text(said["serial"], 0, _TEXT, "zymkey serial"),
        model=as_text(said["model"], 0, _TEXT, "zymkey model"),
        firmware=as_text(said["firmware"], 0, _TEXT, "zymkey firmware"),
        public_key=as_bytes(said["public_key"], 64, "zymkey public key"),
        binding=None if said["binding"] is None else _binding(said["binding"]),
        perimeter=tuple(channels),
    )


def _binding(said: object) -> Binding:
    locked, bound = as_list(said, 2, 2, "zymkey binding")
    if not isinstance(locked, bool) or not isinstance(bound, bool):
        raise FormatError("zymkey: its binding is two booleans; write them so")
    return Binding(locked, bound)
