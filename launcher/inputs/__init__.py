"""The inputs of runs: pinned by digest, staged once per node, shared through the store.

pin(data, cache)          what a lock says of an input
fit(lock, spec, cache)    whether a lock still says it
stage(pin, data, cache)   where it lies on this node, brought here if need be
add(pin, data, store)     put it into a store, for other machines
"""

from launcher.inputs.check import Fit, fit
from launcher.inputs.pin import pin
from launcher.inputs.share import Shared, add
from launcher.inputs.stage import Staged, stage

__all__ = ["Fit", "Shared", "Staged", "add", "fit", "pin", "stage"]
