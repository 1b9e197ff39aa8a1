"""The only place where the keys of the store are made.

    artifacts/sha256/<aa>/<sha256>                 the vault; the files of inputs too
    inputs/sha256/<aa>/<sha256>.json               which files a tree of inputs is made of, by its tree digest
    journal/<time>-<attempt>-<run>                 empty: that an attempt was queued, for those who keep a list
    snapshots/<time>.json                          what a list of runs needs, up to a moment; may be deleted at any time
    collecting/<name>.going|done                   somebody is deleting artifacts, or has been (launcher.vault.marks)
    checks/<name>/...                              what `launcher store check` tries, removed at its end
    clock                                          empty: written when the store's own time is asked for
    locks/<sha256>.lock                            every lock that a run used
    locks/<sha256>.kept                            empty: all files of that lock were put into the vault
    sweeps/<sweep>/plan.json                       the points and their run ids; written once, before anything else
    sweeps/<sweep>/submissions/<number>.json       what somebody is about to submit: which points, where, by which token
    sweeps/<sweep>/submissions/<number>-job.json   what the scheduler said to it; its absence means that nobody knows
    sweeps/<sweep>/cancelled.json                  which points are not wanted any more
    points/<group>/<digest>                        the run that has finished a point, by the point's digest
    runs/<run>/job.json                            written once, at submit
    runs/<run>/claims/<epoch>.json                 which attempt may write, by conditional create; the highest counts
    runs/<run>/claims/<epoch>-inherits.json        which older checkpoints count for it; written once, right after
    runs/<run>/events/<attempt>/<seq>.json         append-only
    runs/<run>/heartbeats/<attempt>.json           written over: the last sign of life
    runs/<run>/logs/<attempt>/<seq>                log chunks
    runs/<run>/metrics/<attempt>/<seq>.jsonl       metric chunks
    runs/<run>/blobs/sha256/<aa>/<sha256>          what checkpoints are made of, each content once ...
    runs/<run>/blobs/sha256/<aa>/<mark>/<sha256>   ... and under a mark when it came again (see `blob`)
    runs/<run>/checkpoints/<attempt>-<seq>/manifest.json     written once, last
    runs/<run>/outputs/<attempt>/files/<path>
    runs/<run>/outputs/<attempt>/manifest.json     written once, last
    runs/<run>/record.json                         written once, when the run has ended

Attempts have four digits and numbers within them eight, so that listings sort as they happened.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def artifact(sha256: str) -> str:
    return f"artifacts/sha256/{sha256[:2]}/{sha256}"


def inputs(sha256: str) -> str:
    """Return the key of the list of files of a tree, by its tree digest."""
    return f"inputs/sha256/{sha256[:2]}/{sha256}.json"


def journal(stamp: str = "", attempt: int = 0, run: str = "") -> str:
    """Return the key that tells of a queued attempt; without a stamp (RFC 3339, UTC) the prefix of them all."""
    return f"journal/{compact(stamp)}-{attempt:04d}-{quoted(run)}" if stamp else "journal/"


def snapshot(stamp: str = "") -> str:
    return f"snapshots/{compact(stamp)}.json" if stamp else "snapshots/"


def compact(stamp: str) -> str:
    """Return a time without the characters that a key must not have: 20260131T120000.123456Z."""
    return stamp.replace("-", "").replace(":", "")


def checks(name: str = "") -> str:
    return f"checks/{name}/" if name else "checks/"


CLOCK = "clock"


def lock(sha256: str) -> str:
    return f"locks/{sha256}.lock"


def kept(sha256: str) -> str:
    return f"locks/{sha256}.kept"


def sweeps() -> str:
    return "sweeps/"


def sweep(name: str) -> str:
    return f"sweeps/{quoted(name)}/"


def plan(name: str) -> str:
    return sweep(name) + "plan.json"


def submissions(name: str) -> str:
    return sweep(name) + "submissions/"


def submission(name: str, number: int) -> str:
    return submissions(name) + f"{number:04d}.json"


def submitted(name: str, number: int) -> str:
    """Return the key of what the scheduler said to a submission."""
    return submissions(name) + f"{number:04d}-job.json"


def cancelled(name: str) -> str:
    return sweep(name) + "cancelled.json"


def points(group: str) -> str:
    return f"points/{group}/"


def point(group: str, digest: str) -> str:
    """Return the key of a finished point: `group` is the digest of what the points of a sweep share."""
    return points(group) + digest


def runs() -> str:
    return "runs/"


def run(run: str) -> str:
    return f"runs/{quoted(run)}/"


def job(run_id: str) -> str:
    return run(run_id) + "job.json"


def targets(run_id: str) -> str:
    return run(run_id) + "targets/"


def target(run_id: str, number: int) -> str:
    """Return the key of where a run was sent for the `number`-th time, from 1."""
    return targets(run_id) + f"{number:04d}.json"


def record(run_id: str) -> str:
    return run(run_id) + "record.json"


def events(run_id: str, attempt: int | None = None) -> str:
    return run(run_id) + "events/" + part(attempt)


def event(run_id: str, attempt: int, seq: int) -> str:
    return events(run_id, attempt) + f"{seq:08d}.json"


def claims(run_id: str) -> str:
    return run(run_id) + "claims/"


def claim(run_id: str, epoch: int) -> str:
    return claims(run_id) + f"{epoch:08d}.json"


def inherited(run_id: str, epoch: int) -> str:
    return claims(run_id) + f"{epoch:08d}-inherits.json"


def heartbeat(run_id: str, attempt: int) -> str:
    return run(run_id) + f"heartbeats/{attempt:04d}.json"


def logs(run_id: str, attempt: int | None = None) -> str:
    return run(run_id) + "logs/" + part(attempt)


def log(run_id: str, attempt: int, seq: int) -> str:
    return logs(run_id, attempt) + f"{seq:08d}"


def metrics(run_id: str, attempt: int | None = None) -> str:
    return run(run_id) + "metrics/" + part(attempt)


def metric(run_id: str, attempt: int, seq: int) -> str:
    return metrics(run_id, attempt) + f"{seq:08d}.jsonl"


def blob(run_id: str, sha256: str, mark: str = "") -> str:
    """Return the key of a checkpoint's file. Content that comes again after its object may have been deleted gets a
    `mark`, so that a deletion which arrives late never meets it."""
    return run(run_id) + f"blobs/sha256/{sha256[:2]}/" + (f"{mark}/" if mark else "") + sha256


def blob_of(run_id: str, line: Mapping[str, Any]) -> str:
    """Return the key of the blob that a line of a checkpoint's manifest names; "" for a link, which has none."""
    return blob(run_id, line["sha256"], line.get("mark", "")) if "sha256" in line else ""


def blobs(run_id: str) -> str:
    return run(run_id) + "blobs/"


def collecting(name: str = "") -> str:
    """Return the key of a mark of those who delete artifacts; without a name the prefix of them all."""
    return f"collecting/{name}"


def checkpoints(run_id: str) -> str:
    return run(run_id) + "checkpoints/"


def checkpoint(run_id: str, attempt: int, seq: int) -> str:
    return checkpoints(run_id) + f"{attempt:04d}-{seq:08d}/manifest.json"


def outputs(run_id: str, attempt: int | None = None) -> str:
    return run(run_id) + "outputs/" + part(attempt)


def output(run_id: str, attempt: int, path: str) -> str:
    return outputs(run_id, attempt) + "files/" + quoted(path, keep="/")


def output_manifest(run_id: str, attempt: int) -> str:
    return outputs(run_id, attempt) + "manifest.json"


def part(attempt: int | None) -> str:
    return "" if attempt is None else f"{attempt:04d}/"


def numbers(key: str) -> tuple[int, int]:
    """Return (attempt, seq) of an event, log, metric or checkpoint key. Raises ValueError when it is none."""
    parts = key.split("/")
    if parts[2] == "checkpoints":
        attempt, _, seq = parts[3].partition("-")
    else:
        attempt, seq = parts[3], parts[4].partition(".")[0]
    return int(attempt), int(seq)


def quoted(name: str, keep: str = "") -> str:
    """Percent-encode what some store refuses in a key: control characters, `#`, `%`, `\\`, `*`, `?` and their like,
    bytes that are no UTF-8, and names that are only dots."""
    if name.isascii() and name.replace("-", "").isalnum():  # run ids: ten thousand of them are no pause
        return name
    if not name.strip("."):
        return name.replace(".", "%2E")
    return "".join(c if c in keep or (c.isprintable() and c not in '/#%\\*?"<>|:') else escape(c) for c in name)


def escape(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))


def unquoted(part: str) -> str:
    """Return the name that `quoted` made a part of a key of."""
    pieces = part.split("%")
    data = pieces[0].encode() + b"".join(bytes([int(p[:2], 16)]) + p[2:].encode() for p in pieces[1:])
    return data.decode("utf-8", "surrogateescape")
