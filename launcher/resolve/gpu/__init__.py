"""What an image needs of GPUs, derived from the pinned artifacts themselves: versions, device code, driver floors."""

from launcher.resolve.gpu.base import BaseFacts
from launcher.resolve.gpu.derive import derive
from launcher.resolve.gpu.libcuda import refuse_driver

__all__ = ["BaseFacts", "derive", "refuse_driver"]
