"""What a container of ours looks like inside, whatever runs it: a pure description, and the folders it needs outside.

    /opt/launcher                the runner's bundle                              read-only
    /workspace                   the code                                         read-only
    /data/<name>                 inputs                                           read-only
    /run/launcher                the run's folder                                 writable
    /run/launcher/home           HOME                                             writable
    /run/launcher/store/runs/<run>   this run's part of a folder store            writable
    /run/launcher/secrets        the credentials of another store                 read-only
    /run/launcher/ca.pem         whom this machine trusts, for another store      read-only
    /var/cache/launcher/pycache  byte code, by PYTHONPYCACHEPREFIX                writable
    /tmp, /dev/shm               in memory                                        writable

Byte code is found by path, size and time, and the files of images and code all have the same time. So only what
one image holds is shared by its runs; /workspace has a folder for each code digest, the rest one for each run.
"""

from __future__ import annotations

import json
from pathlib import Path

from launcher.cache import Cache
from launcher.gpu.model import Device
from launcher.store import folder_of
from launcher.store.access import Access
from launcher.store.keys import run as run_prefix
from launcher.target import accounts, bundle, machine, network, secrets, trees
from launcher.target.gpus import environment
from launcher.target.model import Container, Mount, Work

BUNDLE = "/opt/launcher"
INSIDE = "/run/launcher"
HOME = f"{INSIDE}/home"
SECRETS, TRUSTED = f"{INSIDE}/secrets", f"{INSIDE}/ca.pem"
PYCACHE = "/var/cache/launcher/pycache"
SHARED_CODE = ("usr", "opt/env")  # where an image's own Python files are
RUNNER = ("python3", "-I", "-S", "-B", f"{BUNDLE}/run.py")
FALLBACK_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def container(
    work: Work,
    cache: Cache,
    folder: Path,
    *,
    user: int,
    group: int,
    gpus: tuple[Device, ...] = (),
    runtime: str = "",
    handed: Path | None = None,
) -> Container:
    """Write what the runner is told, and describe the container. `folder` is the run's own on this machine.

    `handed` is the folder of the store's credentials, None where there are none. `runtime` is the name of what will
    run it; nothing but how CUDA is told of GPUs without UUIDs hangs on it.
    """
    inside, own = folder / "inside", own_folder(folder, work.rank)
    (inside / "home").mkdir(parents=True, exist_ok=True)
    runner = bundle.bundle(cache)
    mounts = [
        Mount(source=runner, target=BUNDLE),
        Mount(source=trees.code(cache, work.job.code, work.code), target="/workspace"),
        *(Mount(source=path, target=f"/data/{name}") for name, path in work.data.items()),
        Mount(source=inside, target=INSIDE, writable=True),
        *store_mounts(work, inside, handed),
        *pycache_mounts(work, cache, own, runner.name),
        *accounts.mounts(work.image, cache, own, user=user, group=group, home=HOME),
        *work.mounts,
    ]
    env = command_environment(work, gpus, runtime) | dict(work.env)
    told = attempt_json(work, env, seen_inside(work.store, handed))
    (inside / attempt_file(work.rank)).write_text(json.dumps(told, indent=1, sort_keys=True))
    variables = {"PATH": env["PATH"], "HOME": HOME, "LANG": "C.UTF-8", "PYTHONPYCACHEPREFIX": PYCACHE}
    variables |= {name: env[name] for name in environment(gpus, env, runtime)}  # the runner looks at the GPUs too
    variables |= reaching(work.store, mounts)
    return Container(
        run=work.job.run,
        image=work.image,
        argv=(*RUNNER, f"{INSIDE}/{attempt_file(work.rank)}"),
        env=variables,
        mounts=tuple(mounts),
        user=user,
        group=group,
        gpus=gpus,
    )


def own_folder(folder: Path, rank: int) -> Path:
    """Return where a node keeps what other nodes of the same attempt must not write over; it is made when missing."""
    own = folder / "ranks" / str(rank) if rank else folder
    own.mkdir(parents=True, exist_ok=True)
    return own


def attempt_file(rank: int) -> str:
    return f"attempt-{rank}.json" if rank else "attempt.json"


def attempt_json(work: Work, env: dict[str, str], store: str | dict[str, object]) -> dict[str, object]:
    """Return what the runner is told (docs/reference/runner.md, "attempt.json")."""
    host = dict(work.host) | ({"inputs": dict(work.origins)} if work.origins else {})
    return {
        "version": 1,
        "job": work.job_json(),
        "attempt": work.attempt,
        "role": "follower" if work.rank else "leader",
        "store": store,
        "claim": "now" if work.seen_dead else "wait",
        "machine": machine.name(),  # of no interest to the runner
        "cwd": "/workspace",
        "environment": env,
        "host": host,
        "requeue": work.requeue,
        "times": dict(work.times),
        "given": [mount.target for mount in work.mounts if mount.target.startswith("/dev/")],
        "own_session": True,  # process.start gives every runtime one
    }


def seen_inside(access: Access, handed: Path | None) -> str | dict[str, object]:
    """Return how the runner reaches the store: a folder by its mount, the others over the network."""
    if folder_of(access.url) is not None:
        return f"file://{INSIDE}/store"
    return Access(access.url, access.settings, f"{SECRETS}/{secrets.FILE}" if handed else None).to_json()


def store_mounts(work: Work, inside: Path, handed: Path | None) -> list[Mount]:
    """Of a folder store, a container sees its own run and nothing else; of another, what it takes to reach it."""
    if (folder := folder_of(work.store.url)) is not None:
        return [run_of_store(Path(folder), work.job.run, inside)]
    found = []
    if handed:
        (inside / "secrets").mkdir(exist_ok=True)
        found.append(Mount(source=handed, target=SECRETS))
    if trusted := network.bundle():
        (inside / "ca.pem").touch()
        found.append(Mount(source=trusted, target=TRUSTED))
    return found


def reaching(access: Access, mounts: list[Mount]) -> dict[str, str]:
    """Return the runner's variables for a store of the network; the command gets none of them."""
    if folder_of(access.url) is not None:
        return {}
    trusted = any(mount.target == TRUSTED for mount in mounts)
    return network.proxies() | ({"SSL_CERT_FILE": TRUSTED} if trusted else {})


def run_of_store(store: Path, run: str, inside: Path) -> Mount:
    key = run_prefix(run).rstrip("/")
    source = store / key
    source.mkdir(parents=True, exist_ok=True)
    (inside / "store" / key).mkdir(parents=True, exist_ok=True)
    return Mount(source=source, target=f"{INSIDE}/store/{key}", writable=True)


def pycache_mounts(work: Work, cache: Cache, folder: Path, bundle_name: str) -> list[Mount]:
    image = cache.root / "pycache" / work.image.id
    shared = {
        "": folder / "pycache",
        **{f"/{name}": image / name for name in SHARED_CODE},
        "/workspace": image / "code" / work.job.code,
        BUNDLE: cache.root / "pycache" / bundle_name,
    }
    for target, source in shared.items():
        source.mkdir(parents=True, exist_ok=True)
        (folder / f"pycache{target}").mkdir(parents=True, exist_ok=True)
    return [Mount(source=source, target=PYCACHE + target, writable=True) for target, source in shared.items()]


def command_environment(work: Work, gpus: tuple[Device, ...] = (), runtime: str = "") -> dict[str, str]:
    """Return the image's variables and the few that a target adds; nothing of the host's."""
    config = json.loads(work.image.config).get("config") or {}
    image = dict(entry.split("=", 1) for entry in config.get("Env") or [])
    name = accounts.user_name()
    env = {"PATH": FALLBACK_PATH, "USER": name, "LOGNAME": name, **image, "HOME": HOME, "PYTHONPYCACHEPREFIX": PYCACHE}
    return env | environment(gpus, env, runtime)
