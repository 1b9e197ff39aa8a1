"""Say in plain words what probes found on nodes: what is missing there, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from launcher.findings import Finding, Verdict
from launcher.profiles.answers import NO_ANSWER, Answer, Answers, number
from launcher.profiles.fit_nodes import finding, refused
from launcher.profiles.gres import gpus
from launcher.profiles.model import Partition, Profile
from launcher.profiles.node_facts import LEAST_SCRATCH_KIB, Seen
from launcher.profiles.srun_errors import plain

CLOCK_S = 5
NO_REASON = ('Try "srun --help"', "queued and waiting", "Force Terminated", "has been revoked")
NAMES = {"apptainer": ("apptainer", "singularity")}
KNOWN = ("apptainer", "singularity", "podman", "docker")


def probes(profile: Profile, told: Mapping[str, Answers], seen: Sequence[Seen]) -> Iterator[Finding]:
    """Say of partitions which probes didn't get to a node, and why."""
    there = {one.partition for one in seen}
    pending = dict(waiting(told.get("", {}).get("queue", NO_ANSWER)))
    for name, said in told.items():
        if not name:
            continue
        if name in there:
            node = next(one for one in seen if one.partition == name)
            yield finding("probe", "ok", f"`{name}`: {node.host}, Linux {node.kernel}, {node.machine}")
        elif name in pending:
            says = f"`{name}`: the probe didn't end in time ({pending[name]}); what its nodes have stays unknown"
            yield finding("probe", "unknown", says, "look again later, or give it longer: --wait 600")
        else:
            yield failed(name, said.get("srun", NO_ANSWER), named=name in (profile.partition or "").split(","))
    left = [one.name for one in profile.partitions if one.name not in told]
    if left:
        yield finding("probe", "unknown", f"nothing ran in {', '.join(f'`{name}`' for name in left)}")


def waiting(queue: Answer) -> Iterator[tuple[str, str]]:
    """Yield the partitions whose probe had not ended, and why."""
    for line in queue.lines if queue.good else ():
        parts = line.split("|")
        if len(parts) == 3:
            yield parts[0], f"{parts[1].lower()}: {parts[2]}" if parts[2] != "None" else parts[1].lower()


def failed(name: str, srun: Answer, *, named: bool) -> Finding:
    lines = [line for line in srun.lines if not any(part in line for part in NO_REASON)]
    reason = lines[-1].removeprefix("srun: ").removeprefix("error: ") if lines else srun.reason
    says = f"`{name}`: Slurm took no probe: {reason}"
    return finding("probe", "refused" if named else "warning", says, plain(srun.text))


def node(profile: Profile, seen: Seen, login: Answers) -> Iterator[Finding]:
    """Say what one node has."""
    if seen.setup:
        hint = "mend them in the target's file: nodes may have other modules than the login node"
        yield refused("setup", f"{seen.host}: lines of `setup` fail: {'; '.join(seen.setup)}", hint)
    yield from runtime(profile, seen)
    yield from shared(profile, seen)
    yield from scratch(profile, seen)
    if "scontrol" not in seen.programs:
        hint = "runs can't be requeued from there; `setup` may bring it"
        yield refused("requeue", f"{seen.host}: there is no program `scontrol`", hint)
    if seen.store is not None and not seen.store.writable:
        hint = "name another store, or mend its mode"
        yield refused("store", f"{seen.host}: the store {seen.store.path} can't be written", hint)
    yield from clock(seen, number(login.get("clock", NO_ANSWER).text))


def runtime(profile: Profile, seen: Seen) -> Iterator[Finding]:
    """Say whether the runtime is there, and what it needs of the kernel."""
    wanted = NAMES.get(profile.runtime, (profile.runtime,))
    there = next((name for name in wanted if name in seen.versions), None)
    unprivileged = seen.namespaces.text == "yes"
    if profile.runtime != "sandbox" and there is None:
        others = [name for name in seen.versions if name in KNOWN] + ["sandbox"] * unprivileged
        hint = f"`setup` may bring it (--modules lists some); there is {', '.join(others) or 'no other'}"
        yield refused("runtime", f"{seen.host}: there is no {profile.runtime}", hint)
    elif there:
        yield finding("runtime", "ok", f"{seen.host}: {seen.versions[there] or there}")
    if unprivileged:
        yield finding("user namespaces", "ok", f"{seen.host}: an ordinary user can make one")
    else:
        says = f"{seen.host}: {seen.namespaces.reason}"
        told: Verdict = "refused" if profile.runtime == "sandbox" else "warning"
        yield finding("user namespaces", told, says, "an Apptainer with its setuid helper works without; ask the site")
    if profile.runtime == "apptainer" and not seen.fuse:
        says = f"{seen.host}: /dev/fuse can't be opened"
        hint = "images are then unpacked before each start, or the setuid helper mounts them"
        yield finding("fuse", "warning", says, hint)


def shared(profile: Profile, seen: Seen) -> Iterator[Finding]:
    if not profile.shared:
        return
    if seen.shared is None:
        hint = "name a folder that login node and nodes see under the same path: shared = ..."
        yield refused("shared", f"{seen.host}: {profile.shared} isn't what the login node sees there", hint)
    else:
        yield finding("shared", "ok", f"{seen.host}: {profile.shared} has the same bytes, and can be written")


def scratch(profile: Profile, seen: Seen) -> Iterator[Finding]:
    """Say whether the scratch folder will do, or which folders would."""
    if profile.scratch is not None:
        place = next((one for one in seen.scratch if one.path == profile.scratch), None)
        if place is None or not place.writable:
            what = "isn't there" if place is None else "can't be written"
            yield refused("scratch", f"{seen.host}: {profile.scratch} {what}", better(seen))
        elif place.in_memory:
            yield finding(
                "scratch", "warning", f"{seen.host}: {place.path} is in memory, which jobs need", better(seen)
            )
        elif not place.local:
            says = f"{seen.host}: {place.path} is on {place.type}, not on a disk of the node's own"
            yield finding("scratch", "warning", says, better(seen))
        else:
            yield finding("scratch", "ok", f"{seen.host}: {place.path} is the node's own, {free(place.free_kib)} free")
        return
    yield finding("scratch", "ok", f"{seen.host}: images are run straight from the shared folder", None)


def better(seen: Seen) -> str:
    roomy = [one for one in seen.scratch if one.local and one.writable and (one.free_kib or 0) >= LEAST_SCRATCH_KIB]
    if not roomy:
        return "leave scratch out: images are then run straight from the shared folder"
    return "of the node's own are " + ", ".join(f"{one.path} ({free(one.free_kib)} free)" for one in roomy)


def free(kib: int | None) -> str:
    return "an unknown amount" if kib is None else f"{kib / (1 << 20):.1f} GiB"


def clock(seen: Seen, login: int | None) -> Iterator[Finding]:
    """Compare the clocks: the probe ran after the login node told its own, so only one that is behind shows at once."""
    if seen.clock is not None and login is not None and seen.clock < login - CLOCK_S:
        says = f"{seen.host}: its clock is {login - seen.clock} s behind the login node's"
        yield finding("clock", "warning", says, "object storage refuses requests whose time is wrong; tell the site")


def all_nodes(profile: Profile, seen: Sequence[Seen]) -> Iterator[Finding]:
    """Say what follows from all nodes together: the network, scratch that might be used, GPUs."""
    tried = [one for one in seen if one.outbound is not None]
    failed = [one for one in tried if not one.outbound]
    if failed and any(one.proxy for one in failed):
        says = f"{failed[0].host} reaches the store not directly; there is a proxy, and nobody tried it"
        yield finding("network", "unknown", says)
    elif failed:
        hint = "runs there need a store that is a folder, or a gateway or proxy: ask the site"
        yield finding("network", "refused", f"{failed[0].host} can't reach the store", hint)
    elif tried:
        yield finding("network", "ok", f"{tried[0].host} reaches the store")
    elif seen:
        hint = 'name the store in the target\'s file (store = "s3://...") and look again'
        yield finding("network", "unknown", "nobody tried whether nodes reach the network outside", hint)
    if profile.scratches and profile.scratch is None:
        hint = f'scratch = "{profile.scratches[0]}" in the target\'s file brings an image once to each node'
        yield finding("scratch", "ok", f"the nodes' own disks: {', '.join(profile.scratches)}; {hint}")
    for one in profile.partitions:
        yield from gpu(profile, one)


def gpu(profile: Profile, one: Partition) -> Iterator[Finding]:
    own = gpus(one.gres, profile.gres)
    if not own:
        return
    known = dict.fromkeys((kind.gpu, kind.driver, kind.capability) for kind in one.kinds if kind.driver)
    for model, driver, capability in known:
        parts = [model or "GPUs", f"driver {driver}", *([f"compute capability {capability}"] if capability else [])]
        yield finding("gpus", "ok", f"`{one.name}`: {', '.join(parts)}")
    if not known and one.driver is None:
        says = f"`{one.name}` has {', '.join(one.gres)}, and no node told their driver"
        hint = f'say what you know: [partition.{one.name}] driver = "550.54.15", capability = "9.0"'
        yield finding("gpus", "unknown", says, hint)
