"""Errors of the image tools: one line each, ending with the next step."""


class ImageError(Exception):
    """An image could not be built, checked or loaded."""


class EngineError(ImageError):
    """No Docker engine answers, and none could be started."""


class ImageRefused(ImageError):
    """The chain does not approve an image, or not for this use, or not now."""
