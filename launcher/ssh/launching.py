"""Launching one run on a box: the store is told first, then the box gets what it lacks, then its host side begins.

Killed anywhere, the same call goes on from there; there is never a second host side.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import records
from launcher.box.model import Order, State
from launcher.errors import TargetError
from launcher.profiles.places import Places
from launcher.progress import SILENT, Progress
from launcher.records.writing import user
from launcher.remote.delivery import Delivery, prepare
from launcher.remote.differences import code as code_item
from launcher.remote.items import Item
from launcher.remote.persistence import through_cuts
from launcher.ssh.credentials import given
from launcher.ssh.door import Door, heard
from launcher.ssh.intent import announce
from launcher.ssh.pushing import first, push, silent_since
from launcher.ssh.shipping import Ship, ship
from launcher.store import keys
from launcher.store.access import Access
from launcher.target import accounts, architecture

if TYPE_CHECKING:
    from launcher.cache import Cache
    from launcher.image.oci import Image
    from launcher.job import Job
    from launcher.profiles.model import Profile
    from launcher.remote.contact import Site
    from launcher.remote.model import Shell
    from launcher.store.objects import Store

ENGINES = ("docker", "podman")
PRIVATE = 0o600


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A run that has begun on a box, or waits there. `notes` are for the person."""

    run: str
    state: State
    tools: str
    ship: Ship
    notes: tuple[str, ...] = ()


def launch(
    shell: Shell,
    profile: Profile,
    *,
    job: Job,
    image: Image,
    code: Path,
    data: Mapping[str, Path],
    opened: Store,
    access: Access,
    cache: Cache,
    code_facts: Mapping[str, Any] | None,
    attempt: int = 1,
    origins: Mapping[str, str] | None = None,
    progress: Progress = SILENT,
) -> Launched:
    """Start an attempt of a run on a box; the lock and the code are in the store already.

    Raises TargetError (no way there, another launch has the attempt, the box refuses), DiskFullError, FetchError for
    tools that can't be had, and errors of the store.
    """
    launch = Launch(shell, profile, job, image, opened, access, cache, attempt, progress)
    launch.tell(code_facts)
    with launch.looking_ahead():
        site, tools = launch.deliver(code, data)
    return launch.start(site, tools, data, origins or {}, code_facts)


class Launch:
    """One attempt on its way to a box."""

    def __init__(
        self,
        shell: Shell,
        profile: Profile,
        job: Job,
        image: Image,
        opened: Store,
        access: Access,
        cache: Cache,
        attempt: int,
        progress: Progress,
    ) -> None:
        self.shell, self.profile, self.job, self.image, self.opened = shell, profile, job, image, opened
        self.access, self.cache, self.attempt, self.progress = access, cache, attempt, progress
        self.ship = ship(profile, access)
        self.ahead: tuple[str, Future[str | None] | None] = ("", None)

    @property
    def values(self) -> dict[str, Any]:
        """The job in JSON's own types."""
        from launcher.job import to_json

        told: dict[str, Any] = json.loads(to_json(self.job))
        return told

    def tell(self, code_facts: Mapping[str, Any] | None) -> None:
        """Tell the store where the run goes and that its attempt is queued, before anything begins there.

        Raises TargetError when somebody else has queued this attempt.
        """
        announce(self.opened, self.job.run, self.profile, self.ship)
        scheduler = {"kind": "ssh", "target": self.profile.name}
        mine = records.submit(self.opened, self.values, code=code_facts, attempt=self.attempt, scheduler=scheduler)
        if not mine and not self.is_ours(scheduler):
            run = self.job.run
            raise TargetError(
                f"somebody else has begun attempt {self.attempt} of {run}", hint=f"`launcher logs -f {run}` follows it"
            )

    def is_ours(self, scheduler: Mapping[str, Any]) -> bool:
        """Tell whether the attempt was queued by an earlier call of this one, that was cut short."""
        told = json.loads(self.opened.get(keys.event(self.job.run, self.attempt, 0)))
        return bool(told.get("scheduler") == scheduler and told.get("who") == user())

    @contextlib.contextmanager
    def looking_ahead(self) -> Iterator[None]:
        """Ask the box's engine for the image while everything else is brought, where we know by what to ask it."""
        from launcher.remote.engines import present
        from launcher.remote.tools import usual

        known = usual(self.profile, self.cache) if self.profile.runtime in ENGINES else None
        pool = ThreadPoolExecutor(1)
        try:
            if known:
                shared = replace(self.profile, shared=known.rpartition("/tools/")[0])
                self.ahead = known, pool.submit(present, self.shell, shared, known, self.image)
            yield
        finally:
            pool.shutdown(wait=False)

    def deliver(self, code: Path, data: Mapping[str, Path]) -> tuple[Site, str]:
        """Bring to the box what it lacks, but for an image that its engine pulls: two round trips at most."""
        here = Places("")
        items = [code_item(self.job.code, code, self.cache, f"{self.shell.where}:{self.profile.shared}")]
        items += [
            Item(path=here.input(self.job.data[name]), source=path, tree=path.is_dir()) for name, path in data.items()
        ]
        wanted = [self.image_delivery(), Delivery(items=tuple(items))]
        run, opened = self.job.run, self.opened
        if self.ship == "relay" and self.attempt == 1:
            wanted.append(Delivery(items=first(opened, run, self.attempt)))
        site, tools = prepare(self.shell, self.profile, wanted, self.cache, self.progress)
        if self.ship == "relay" and self.attempt > 1:
            push(self.shell, self.profile, site, tools, run, opened=opened, cache=self.cache, progress=self.progress)
        return site, tools

    def image_delivery(self) -> Delivery:
        """Return what brings the image's documents, and its layers where no engine pulls them."""
        if self.profile.runtime in ENGINES:
            from launcher.node.images import to_json

            told = to_json(self.image, accounts.of_image(self.image, self.cache))
            return Delivery(items=(Item(path=Places("").image(self.image.id, "image.json"), source=told),))
        from launcher.remote.images import delivery

        return delivery(self.shell, self.image, self.profile.runtime, self.cache)

    def start(
        self,
        site: Site,
        tools: str,
        data: Mapping[str, Path],
        origins: Mapping[str, str],
        code_facts: Mapping[str, Any] | None,
    ) -> Launched:
        """Bring the image into the engine, and have the host side begin with its order."""
        there, profile = Places(site.shared), replace(self.profile, shared=site.shared)
        reference = self.engine(profile, tools)
        what = given(self.access, self.job.run, profile, ship=self.ship)
        order = Order(
            run=self.job.run,
            job=self.values,
            attempt=self.attempt,
            tools=tools,
            profile=profile,
            store=what.store,
            ship=self.ship,
            image=self.image.id,
            reference=reference,
            architecture=architecture.of(self.image),
            code=there.artifact(self.job.code),
            data={name: there.input(self.job.data[name]) for name in data},
            origins=origins,
            code_facts=code_facts,
            who=user(),
        )
        told: dict[str, Any] = {"order": there.job(self.job.run, "order.json"), "told": order.to_json()}
        if what.secrets:
            told |= {"secrets": dict(what.secrets), "keep": what.keep}
        if self.ship == "relay" and self.attempt > 1:
            told["silent_since"] = silent_since(self.opened, self.job.run)
        door = Door(shell=self.shell, profile=profile, tools=tools)
        state = heard(through_cuts(lambda: door.ask("start", told), self.progress), self.shell.where)
        notes = (what.note,) if what.note else ()
        return Launched(run=self.job.run, state=state, tools=tools, ship=self.ship, notes=notes)

    def engine(self, profile: Profile, tools: str) -> str | None:
        """Bring the image into the box's engine, where it has one; return what it is called there."""
        if profile.runtime not in ENGINES:
            return None
        from launcher.remote.engines import deliver
        from launcher.remote.tools import remember

        remember(self.profile, tools, self.cache)
        known, look = self.ahead
        if look and known == tools and (there := look.result()):
            return there
        return deliver(self.shell, profile, tools, self.image, self.cache, self.progress)
