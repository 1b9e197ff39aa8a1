"""Whether this node can serve the job, asked from inside the container before the command starts.

A client has looked before it submitted; but a queue chose the node, and the container decides what of it is visible.
"""

from __future__ import annotations

from launcher.gpu.model import Code, Gpu, Node
from launcher.gpu.probe import probe, visible
from launcher.gpu.verdict import findings
from launcher.runner.clock import say
from launcher.runner.command import NotStarted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from launcher.findings import Finding
    from launcher.runner.attempt import Attempt

NODE_REFUSED = 78  # EX_CONFIG of sysexits.h(3): not the command's doing


class Wanted:
    """What the job asks for, as its JSON says it."""

    def __init__(self, gpus: Mapping[str, Any]) -> None:
        self.count: int = gpus["count"]
        self.model: str | None = gpus.get("model")


def unfit(attempt: Attempt, environment: Mapping[str, str]) -> NotStarted | None:
    """Return why the node can't serve the job, told on stderr too; None when it can, or nobody can tell.

    `environment` is the command's: CUDA_VISIBLE_DEVICES hides GPUs, LD_LIBRARY_PATH says where libraries are.
    """
    try:
        found = seen(attempt, environment)
    except Exception as e:  # a bug of ours must not keep a run from a node that may be good
        say(f"the node's GPUs could not be checked: {type(e).__name__}: {e}")
        return None
    for finding in found:
        if finding.verdict in ("warning", "unknown"):
            say(f"{finding.subject}: {finding.says}")
    refused = [finding for finding in found if finding.verdict == "refused"]
    if not refused:
        return None
    for finding in refused:
        say(f"this node can't serve the job: {finding.says}" + (f" ({finding.hint})" if finding.hint else ""))
    return NotStarted(NODE_REFUSED, "; ".join(finding.says for finding in refused), by="node")


def seen(attempt: Attempt, environment: Mapping[str, str]) -> list[Finding]:
    folders = [folder for folder in environment.get("LD_LIBRARY_PATH", "").split(":") if folder]
    node = visible(probe(folders=folders), environment.get("CUDA_VISIBLE_DEVICES"))
    if attempt.given and not node.devices:
        node = Node()  # a scheduler gave them: that nothing tells of them is no proof that they are none
    return findings(gpu_of(attempt.job.get("gpu")), node, wanted=Wanted(attempt.job["resources"]["gpus"]))


def gpu_of(told: Mapping[str, Any] | None) -> Gpu | None:
    """Read the image's needs from a job's JSON."""
    if told is None:
        return None
    code = tuple(Code(**{**one, "cubins": tuple(one["cubins"]), "ptx": tuple(one["ptx"])}) for one in told["code"])
    return Gpu(**{**told, "code": code})
