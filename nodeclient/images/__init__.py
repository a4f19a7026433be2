"""The Verification module: images are built reproducibly, checked, and only then loaded."""

from nodeclient.images.build import BuiltImage, build_runtime
from nodeclient.images.engine import ensure_engine
from nodeclient.images.errors import EngineError, ImageError
from nodeclient.images.load import load_image
from nodeclient.images.verify import verify_image

__all__ = [
    "BuiltImage",
    "EngineError",
    "ImageError",
    "build_runtime",
    "ensure_engine",
    "load_image",
    "verify_image",
]
