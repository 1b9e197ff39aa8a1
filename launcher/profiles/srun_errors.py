"""What Slurm's refusals mean in plain words, and what to do about them."""

from __future__ import annotations

PLAIN = {  # part of what srun or sbatch says (slurm_errno.h), and what to do
    "Invalid account": "name one of your accounts: account = ... in the target's file",
    "Invalid qos": "name a QOS that this partition takes: qos = ... in the target's file",
    "Invalid partition name": "`sinfo -s` lists the partitions",
    "User's group not permitted": "the partition is for others: name another, or ask the site",
    "not available (inactive or drain)": "the partition takes no jobs now; look again later",
    "Requested time limit is invalid": "the partition or QOS ends jobs earlier than a probe's two minutes",
    "Requested node configuration is not available": "no node has what `constraint` and `options` ask for",
    "Access/permission denied": "the partition is for others: name another, or ask the site",
    "violates accounting/QOS policy": "a limit of your account or QOS is reached: end some jobs, or name another",
    "Invalid generic resource": "GPUs are called otherwise here: gres = ... in the target's file",
    "Invalid feature": "`constraint` names a feature that no node has; `sinfo -o %f` lists them",
    "unrecognized option": "`options` in the target's file has one that this Slurm doesn't know",
    "Unable to contact": "the controller doesn't answer; look again later",
    "Socket timed out": "the controller is busy; look again later",
    "couldn't chdir": "the node is set up differently from the login node; tell the site",
}


def plain(text: str) -> str:
    """Return what to do about a refusal of srun."""
    for part, hint in PLAIN.items():
        if part.lower() in text.lower():
            return hint
    return "try it by hand: srun --partition=... --nodes=1 true; what it says is Slurm's own or a plugin's of the site"
