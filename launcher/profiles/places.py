"""Where things lie below a site's shared folder: the only place where these paths are made.

    tools/<digest>/                 launcher for the nodes and the login node: a virtual environment, made once
    images/<image id>/              image.json, and image.sif or what else the runtime wants
    blobs/sha256/<aa>/<sha256>      layers that were sent, by diff_id
    artifacts/sha256/<aa>/<sha256>  code archives
    inputs/<sha256>                 inputs: a file, or a tree
    secrets/<key>/store.json        credentials of a store, for this user alone; removed when nothing needs them
    sweeps/<sweep>/plan-<sha256>.json  the points; the same sweep in another store has another plan
    sweeps/<sweep>/<token>.json     what the tasks of one submission are told: an order
    sweeps/<sweep>/<token>/         its batch script, and what the host side of its tasks printed
    runs/<run>/                     folders of runs with several nodes, which all of these share
    jobs/<run>/                     on a box: what its host side is told and tells (launcher.box.model)
    queue/                          on a box: who waits for GPUs, and who holds them
    store/                          on a box that can't or needn't reach the store: its own, which others relay
    cache/                          the cache of this site's launchers
    tmp/                            what is under way; what died there is removed after two days

Everything that is named by a digest is written whole, by a rename, and never changed.
"""

from __future__ import annotations

from pathlib import PurePosixPath


class Places:
    """Paths below a shared folder, as text."""

    def __init__(self, shared: str) -> None:
        self.shared = PurePosixPath(shared)

    def at(self, *parts: str) -> str:
        return str(self.shared.joinpath(*parts))

    def tools(self, digest: str) -> str:
        return self.at("tools", digest)

    def image(self, image: str, name: str = "") -> str:
        """Return the path of a file of an image: image.json, image.sif."""
        return self.at("images", image, *([name] if name else []))

    def blob(self, diff_id: str) -> str:
        return self.at("blobs", "sha256", diff_id[:2], diff_id)

    def artifact(self, sha256: str) -> str:
        return self.at("artifacts", "sha256", sha256[:2], sha256)

    def input(self, sha256: str) -> str:
        return self.at("inputs", sha256)

    def secrets(self, key: str) -> str:
        return self.at("secrets", key, "store.json")

    def plan(self, sweep: str, sha256: str) -> str:
        return self.at("sweeps", sweep, f"plan-{sha256}.json")

    def order(self, sweep: str, token: str) -> str:
        return self.at("sweeps", sweep, f"{token}.json")

    def submission(self, sweep: str, token: str) -> str:
        return self.at("sweeps", sweep, token)

    def run(self, run: str) -> str:
        return self.at("runs", run)

    def job(self, run: str, name: str = "") -> str:
        """Return the folder of a run on a box, or a file in it: order.json, state.json, out, log, held, cancel."""
        return self.at("jobs", run, *([name] if name else []))

    def queue(self) -> str:
        return self.at("queue")

    def store(self) -> str:
        return self.at("store")

    def cache(self) -> str:
        return self.at("cache")
