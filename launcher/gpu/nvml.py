"""What NVIDIA's management library says of a node, as JSON on stdout: a program of its own, since a driver may hang.

Called as `python3 -I -S -B nvml.py LIBRARY...`: the first library that can be loaded is asked. Names, structures and
the meaning of return codes are those of the NVML API reference (docs.nvidia.com/deploy/nvml-api). It imports nothing
of launcher: it runs beside it, in any Python >= 3.10 that has ctypes.
"""

from __future__ import annotations

import ctypes
import json
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

SUCCESS = 0
NAME_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE and NVML_DEVICE_UUID_V2_BUFFER_SIZE
VERSION_BYTES = 80  # NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
MIG_ENABLED = 1  # NVML_DEVICE_MIG_ENABLE
# CUDA cores of one multiprocessor (CUDA C++ Programming Guide, "Compute Capabilities"), by major or whole capability.
CORES = {"5": 128, "6.0": 64, "6": 128, "7": 64, "8.0": 64, "8": 128, "9": 128, "10": 128, "11": 128, "12": 128}


class Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Attributes(ctypes.Structure):
    """nvmlDeviceAttributes_t, which only slices of a GPU (MIG) have."""

    _fields_ = (
        ("multiprocessors", ctypes.c_uint),
        ("engines", ctypes.c_uint * 5),
        ("slices", ctypes.c_uint * 2),
        ("memory_mib", ctypes.c_ulonglong),
    )


class Nvml:
    """The library, initialised. Every question is answered by None where the library can't."""

    def __init__(self, library: Any) -> None:
        """Raises OSError when the library can't reach the driver."""
        self.library = library
        code = library.nvmlInit_v2()
        if code != SUCCESS:
            raise OSError(f"nvmlInit_v2 returned {code}")

    def ask(self, name: str, *arguments: Any) -> bool:
        """Call a function of the library; tell whether there is one and it returned success."""
        function = getattr(self.library, name, None)
        return function is not None and function(*arguments) == SUCCESS

    def text(self, name: str, *arguments: Any, size: int = NAME_BYTES) -> str | None:
        buffer = ctypes.create_string_buffer(size)
        if not self.ask(name, *arguments, buffer, ctypes.c_uint(size)):
            return None
        return buffer.value.decode(errors="replace") or None

    def number(self, name: str, *arguments: Any) -> int | None:
        found = ctypes.c_uint()
        return found.value if self.ask(name, *arguments, ctypes.byref(found)) else None

    def handle(self, name: str, *arguments: Any) -> Any:
        found = ctypes.c_void_p()
        return found if self.ask(name, *arguments, ctypes.byref(found)) else None

    def node(self) -> dict[str, Any]:
        return {
            "driver": self.text("nvmlSystemGetDriverVersion", size=VERSION_BYTES),
            "cuda": self.cuda(),
            "devices": list(self.devices()),
        }

    def cuda(self) -> str | None:
        """Return the newest CUDA that the driver serves: the library says 12040 for 12.4."""
        number = self.number("nvmlSystemGetCudaDriverVersion_v2") or self.number("nvmlSystemGetCudaDriverVersion")
        return f"{number // 1000}.{number % 1000 // 10}" if number else None

    def devices(self) -> Iterator[dict[str, Any]]:
        """Yield the GPUs that may be used here; of one that is cut up (MIG), its slices."""
        for index in range(self.number("nvmlDeviceGetCount_v2") or 0):
            handle = self.handle("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index))
            if handle is None:  # NVML_ERROR_NO_PERMISSION: another container's
                continue
            if self.is_cut_up(handle):
                yield from self.slices(index, handle)
            else:
                yield self.device(index, handle, handle)

    def is_cut_up(self, handle: Any) -> bool:
        now, later = ctypes.c_uint(), ctypes.c_uint()
        asked = self.ask("nvmlDeviceGetMigMode", handle, ctypes.byref(now), ctypes.byref(later))
        return asked and now.value == MIG_ENABLED

    def slices(self, index: int, parent: Any) -> Iterator[dict[str, Any]]:
        for number in range(self.number("nvmlDeviceGetMaxMigDeviceCount", parent) or 0):
            handle = self.handle("nvmlDeviceGetMigDeviceHandleByIndex", parent, ctypes.c_uint(number))
            if handle is not None:
                yield self.device(index, handle, parent)

    def device(self, index: int, handle: Any, whole: Any) -> dict[str, Any]:
        """Describe a GPU, or a slice of the GPU `whole`."""
        memory, capability = Memory(), self.capability(whole)
        has_memory = self.ask("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
        return {
            "index": index,
            "uuid": self.text("nvmlDeviceGetUUID", handle),
            "model": self.text("nvmlDeviceGetName", handle),
            "capability": capability,
            "memory_bytes": memory.total if has_memory else None,
            "multiprocessors": self.multiprocessors(handle, capability),
        }

    def capability(self, handle: Any) -> str | None:
        major, minor = ctypes.c_int(), ctypes.c_int()
        told = self.ask("nvmlDeviceGetCudaComputeCapability", handle, ctypes.byref(major), ctypes.byref(minor))
        return f"{major.value}.{minor.value}" if told else None

    def multiprocessors(self, handle: Any, capability: str | None) -> int | None:
        """Return a slice's own number; of a whole GPU NVML tells the cores alone."""
        attributes = Attributes()
        if self.ask("nvmlDeviceGetAttributes_v2", handle, ctypes.byref(attributes)) and attributes.multiprocessors:
            return int(attributes.multiprocessors)
        cores = self.number("nvmlDeviceGetNumGpuCores", handle)
        each = CORES.get(capability or "") or CORES.get((capability or "").partition(".")[0])
        return cores // each if cores and each else None


def opened(paths: Sequence[str]) -> Nvml:
    """Return the first library that can be loaded and answers. Raises OSError for none."""
    why: OSError | None = None
    for path in paths:
        try:
            return Nvml(ctypes.CDLL(path))
        except (OSError, AttributeError) as e:
            why = why or OSError(str(e))
    raise why or OSError("no library was named")


def main(paths: Sequence[str]) -> None:
    """Write the node as JSON; nothing, and the reason to stderr, when no library answers."""
    try:
        told = opened(paths).node()
    except OSError as e:
        sys.stderr.write(f"{e}\n")
    else:
        sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
