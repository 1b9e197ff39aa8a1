"""The variables that `determinism` sets: numbers that the job fixes, never the host.

What each of them is for, and what none of them can promise, is in docs/how-to/determinism.md.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

LARGEST_HASH_SEED = 4294967295  # PYTHONHASHSEED's own limit
STRICT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "strict")
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
FIXED = {
    "OMP_DYNAMIC": "FALSE",
    "MKL_DYNAMIC": "FALSE",
    "MKL_CBWR": "AUTO,STRICT",  # oneMKL, "Conditional Numerical Reproducibility"
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS, "Results Reproducibility"
    "NVIDIA_TF32_OVERRIDE": "0",
    "NCCL_ALGO": "Ring",
    "NCCL_PROTO": "Simple",
    "NCCL_NVLS_ENABLE": "0",
    "NCCL_COLLNET_ENABLE": "0",
    "TF_DETERMINISTIC_OPS": "1",
    "TF_CUDNN_DETERMINISTIC": "1",
    "TORCHINDUCTOR_DETERMINISTIC": "1",  # torch._inductor.config.deterministic: no choice of kernels by timing
}
XLA = "--xla_gpu_deterministic_ops=true"


def add(env: dict[str, str], job: Mapping[str, Any], frameworks: str) -> None:
    """Add what the job's determinism asks for. What the image, the spec or the target set themselves, stays.

    `frameworks` is the file where a strict run's process says which frameworks it imported.
    """
    if job.get("determinism") not in ("seed", "strict"):
        return
    env.setdefault("PYTHONHASHSEED", str(int(job.get("seed", 0)) % (LARGEST_HASH_SEED + 1)))
    if job["determinism"] == "strict":
        add_strict(env, int((job.get("resources") or {}).get("cpus") or 1), frameworks)


def add_strict(env: dict[str, str], threads: int, frameworks: str) -> None:
    for name in THREADS:
        env.setdefault(name, str(threads))
    for name, value in FIXED.items():
        env.setdefault(name, value)
    if XLA.partition("=")[0] not in env.get("XLA_FLAGS", ""):
        env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} {XLA}".strip()
    env["PYTHONPATH"] = ":".join(filter(None, [STRICT, env.get("PYTHONPATH")]))
    env["LAUNCHER_DETERMINISM"] = "strict"
    env["LAUNCHER_FRAMEWORKS"] = frameworks
