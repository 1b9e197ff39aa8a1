"""What a site gets before anything is submitted there: launcher itself, image, code, inputs, plan, credentials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
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
    from launcher.remote.delivery import Delivery, prepare
    from launcher.remote.differences import code
    from launcher.remote.images import delivery
    from launcher.remote.items import Item
    from launcher.target.architecture import of

    here = Places("")
    image = delivery(shell, freight.image, profile.runtime, cache)
    items = [code(plan.shared.code, freight.code, cache, f"{shell.where}:{profile.shared}")]
    items += [
        Item(path=here.input(plan.shared.data[name]), source=path, tree=path.is_dir())
        for name, path in freight.data.items()
    ]
    items += [*secret_items(access), plan_item(plan)]
    site, tools = prepare(shell, profile, [image, Delivery(items=tuple(items))], cache, progress)
    return at(Places(site.shared), tools, plan, access, of(freight.image))


def imagined(profile: Profile, plan: Plan, freight: Freight, access: Access) -> Sent:
    """Return where things will be, for a dry run: the tools' digest is known only once the site has been seen."""
    from launcher.target.architecture import of

    return at(Places(profile.shared), Places(profile.shared).tools("..."), plan, access, of(freight.image))


def at(there: Places, tools: str, plan: Plan, access: Access, architecture: str) -> Sent:
    return Sent(
        shared=str(there.shared),
        tools=tools,
        plan=there.at(plan_item(plan).path),
        code=there.artifact(plan.shared.code),
        data={name: there.input(sha256) for name, sha256 in plan.shared.data.items()},
        store=as_reached_there(access, there),
        architecture=architecture,
    )


def plan_item(plan: Plan) -> Item:
    """Return the plan under a name that is its content's: the same sweep in another store has other runs."""
    from launcher.job.sweeps import to_json
    from launcher.remote.items import Item

    content = to_json(plan)
    return Item(path=Places("").plan(plan.sweep, sha256_bytes(content)), source=content)


def secret_items(access: Access) -> list[Item]:
    """Return what opens a store: its credentials. Certificates that are trusted for it stand in its settings."""
    from launcher.access import credentials
    from launcher.remote.items import Item

    if not (secrets := credentials(access)):
        return []
    data = json.dumps(secrets).encode()
    return [Item(path=Places("").secrets(key_of(access)), source=data, mode=PRIVATE, replace=True)]


def as_reached_there(access: Access, there: Places) -> Access:
    """Return how nodes reach a store: by the files that were sent."""
    from launcher.access import credentials

    return Access(access.url, access.settings, there.secrets(key_of(access)) if credentials(access) else None)


def key_of(access: Access) -> str:
    """Return what the files of a store's credentials are filed under: no secret, and the same each time."""
    told: Any = {"url": access.url, "settings": dict(access.settings)}
    return sha256_bytes(canonical_json(told))[:16]
