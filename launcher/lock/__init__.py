"""The lock: what a spec means, every artifact by sha256."""

from launcher.lock.model import Artifact, DataPin, Deb, ImagePin, Inputs, LayerPin, Lock, Wheel

__all__ = ["Artifact", "DataPin", "Deb", "ImagePin", "Inputs", "LayerPin", "Lock", "Wheel"]
