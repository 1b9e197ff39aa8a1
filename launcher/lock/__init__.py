"""The lock: what a spec means, every artifact by sha256."""

from launcher.lock.model import Artifact, DataPin, Deb, ImagePin, Inputs, LayerPin, Lock, Wheel
from launcher.lock.read import load, loads
from launcher.lock.write import digest, dumps

__all__ = [
    "Artifact",
    "DataPin",
    "Deb",
    "ImagePin",
    "Inputs",
    "LayerPin",
    "Lock",
    "Wheel",
    "digest",
    "dumps",
    "load",
    "loads",
]
