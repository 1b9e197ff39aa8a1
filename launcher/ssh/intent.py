"""What the store is told before a run begins on a box: where it goes, so that anybody finds it there again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from launcher.errors import ObjectExistsError
from launcher.records.writing import user
from launcher.runner.clock import stamp
from launcher.ssh.door import Sent, sent
from launcher.store import keys

if TYPE_CHECKING:
    from launcher.profiles.model import Profile
    from launcher.ssh.shipping import Ship
    from launcher.store.objects import Store


def announce(opened: Store, run: str, profile: Profile, ship: Ship) -> Sent:
    """Write that a run goes to a box, unless that is what was written last; return what is there then."""
    while True:
        before = sent(opened, run)
        told = Sent(
            number=len(before) + 1,
            target=profile.name,
            host=profile.host,
            kind=profile.kind,
            ship=ship,
            folder=profile.shared,
            when=stamp(),
            who=user(),
        )
        if before and same(before[-1], told):
            return before[-1]
        facts = {name: value for name, value in vars(told).items() if name != "number"}
        try:
            opened.create(keys.target(run, told.number), json.dumps(facts).encode())
        except ObjectExistsError:  # another one, or our own, whose answer was lost
            continue
        return told


def same(one: Sent, other: Sent) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("target", "host", "kind", "ship", "folder"))
