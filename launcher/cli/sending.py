"""What a site gets before anything is submitted there: launcher itself, image, code, inputs, plan, credentials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.digest import canonical_json, sha256_bytes
from launcher.profiles.places import Places
from launcher.store.access import Access

if TYPE_CHECKING:
    from launcher.cache import Cache
    from launcher.cli.preparing import Freight
    from launcher.job.sweeps import Plan
    from launcher.profiles import Profile
    from launcher.progress import Progress
    from launcher.remote import Shell
    from launcher.remote.items import Item

PRIVATE = 0o600


@dataclass(frozen=True, kw_only=True)
class Sent:
    """Where things are on a site, as orders tell tasks of them: absolute paths."""

    shared: str
    tools: str
    plan: str
    code: str
    data: Mapping[str, str]
    store: Access
    architecture: str


def send(
    shell: Shell, profile: Profile, plan: Plan, freight: Freight, access: Access, cache: Cache, progress: Progress
) -> Sent:
    """Bring to a site what it lacks, and nothing else: two round trips at most.

    Raises TargetError, DiskFullError when the shared folder is full, FetchError for tools that can't be had.
    """
    from launcher.job.sweeps import to_json
    from launcher.remote.delivery import Delivery, prepare
    from launcher.remote.items import Item
    from launcher.target.architecture import of

    here = Places("")
    items = [*image_items(freight, profile, cache), Item(path=here.artifact(plan.shared.code), source=freight.code)]
    items += [
        Item(path=here.input(plan.shared.data[name]), source=path, tree=path.is_dir())
        for name, path in freight.data.items()
    ]
    items += [*secret_items(access), Item(path=here.plan(plan.sweep), source=to_json(plan))]
    site, tools = prepare(shell, profile, [Delivery(items=tuple(items))], cache, progress)
    there = Places(site.shared)
    return Sent(
        shared=site.shared,
        tools=tools,
        plan=there.plan(plan.sweep),
        code=there.artifact(plan.shared.code),
        data={name: there.input(sha256) for name, sha256 in plan.shared.data.items()},
        store=as_reached_there(access, there),
        architecture=of(freight.image),
    )


def image_items(freight: Freight, profile: Profile, cache: Cache) -> list[Item]:
    from launcher.node.images import files
    from launcher.remote.items import Item

    return [Item(path=path, source=source) for path, source in files(freight.image, cache, profile.runtime)]


def secret_items(access: Access) -> list[Item]:
    """Return what opens a store: its credentials, and the certificates that this machine trusts for it."""
    from launcher.access import credentials
    from launcher.remote.items import Item

    secrets, found = credentials(access), list[Item]()
    if secrets:
        data = json.dumps(secrets).encode()
        found.append(Item(path=Places("").secrets(key_of(access)), source=data, mode=PRIVATE, replace=True))
    if certificates := access.settings.get("ca"):
        data = Path(certificates).read_bytes()
        found.append(Item(path=trusted(Places(""), access), source=data, mode=PRIVATE, replace=True))
    return found


def as_reached_there(access: Access, there: Places) -> Access:
    """Return how nodes reach a store: by the files that were sent."""
    from launcher.access import credentials

    settings = {**access.settings, **({"ca": trusted(there, access)} if "ca" in access.settings else {})}
    return Access(access.url, settings, there.secrets(key_of(access)) if credentials(access) else None)


def trusted(places: Places, access: Access) -> str:
    return places.secrets(key_of(access)).removesuffix("store.json") + "ca.pem"


def key_of(access: Access) -> str:
    """Return what the files of a store's credentials are filed under: no secret, and the same each time."""
    told: Any = {"url": access.url, "settings": dict(access.settings)}
    return sha256_bytes(canonical_json(told))[:16]
