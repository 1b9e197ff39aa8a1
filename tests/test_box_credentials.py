"""Where a run's credentials lie on a box, for how long, and who is believed when they are asked for."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from launcher.access import narrowing
from launcher.box import credentials, state
from launcher.box.model import Order, State
from launcher.errors import TargetError
from launcher.profiles.model import Profile
from launcher.profiles.places import Places
from launcher.remote.here import Here
from launcher.ssh import credentials as ours
from launcher.ssh.door import Door
from launcher.store import keys
from launcher.store import open as open_store
from launcher.store.access import Access, read_secrets
from launcher.store.objects import Store
from tests.object_stores import forget_settings

LONG, SHORT = {"access_key_id": "AKIDLONG", "secret_access_key": "long-lived"}, {"token": "short-lived"}


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that stands for the box's memory, and outlives a login."""
    place = tmp_path / "memory"
    place.mkdir(mode=0o1777)
    monkeypatch.setattr(credentials, "MEMORY", place)
    monkeypatch.setattr(credentials, "outlives_logins", lambda: True)
    yield place


@pytest.fixture
def shared(tmp_path: Path) -> str:
    return str(tmp_path / "box of 'Ada' $HOME")


def ending(seconds: float) -> dict[str, str]:
    return {**SHORT, "expires_at": datetime.fromtimestamp(time.time() + seconds, timezone.utc).isoformat()}


def ordered(shared: str, run: str = "mine", **changes: Any) -> Order:
    """Write an order such as a launch does."""
    store = Access("s3://bucket", {}, Places(shared).secrets(run))
    profile = Profile(name="box", kind="ssh", host="box.example.org", shared=shared)
    told: dict[str, Any] = {"run": run, "job": {}, "attempt": 1, "tools": "t", "profile": profile, "store": store}
    order = Order(**{**told, "ship": "direct", "image": "i", **changes})
    folder = state.folder(shared, run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / state.ORDER).write_text(json.dumps(order.to_json()))
    return order


def secrets_of(order: Order) -> dict[str, str]:
    return read_secrets(str(order.store.secrets))


def test_they_lie_in_memory_for_their_user_alone(memory: Path, shared: str) -> None:
    order = ordered(shared)
    place = Path(credentials.put(shared, "mine", LONG))
    assert place.is_relative_to(memory) and secrets_of(order) == LONG
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    for folder in (place.parent, place.parent.parent, Path(str(order.store.secrets)).parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    whole = [path for path in Path(shared).rglob("*") if path.is_file() and not path.is_symlink()]
    assert all(b"long-lived" not in path.read_bytes() for path in whole)
    assert Path(credentials.put(shared, "mine", SHORT)) == place and secrets_of(order) == SHORT
    credentials.remove(shared, "mine")
    credentials.remove(shared, "mine")
    assert not place.parent.exists() and not Path(str(order.store.secrets)).parent.exists()


def test_a_person_may_want_them_on_the_disk(memory: Path, shared: str) -> None:
    order = ordered(shared)
    place = Path(credentials.put(shared, "mine", SHORT, "disk"))
    assert place == Path(str(order.store.secrets)) and not place.is_symlink() and not list(memory.iterdir())
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    credentials.put(shared, "mine", SHORT)
    assert place.is_symlink() and secrets_of(order) == SHORT


def test_what_lies_in_their_way_is_refused(memory: Path, shared: str, tmp_path: Path) -> None:
    (memory / f"launcher-{os.getuid()}").symlink_to(tmp_path)  # memory belongs to all
    order = ordered(shared)
    assert Path(credentials.put(shared, "mine", SHORT)) == Path(str(order.store.secrets))
    Path(shared, "secrets", "other").mkdir(mode=0o755)
    with pytest.raises(TargetError, match="others may enter"):
        credentials.put(shared, "other", SHORT)


def test_more_are_wanted_when_little_of_their_life_is_left(memory: Path, shared: str) -> None:
    order = ordered(shared)
    assert credentials.need(order) == "missing"
    credentials.put(shared, "mine", LONG)
    assert credentials.need(order) == ""
    credentials.put(shared, "mine", ending(900))
    assert [credentials.need(order, time.time() + late) for late in (0, 550, 650, 1000)] == ["", "", "soon", "missing"]
    assert credentials.need(replace(order, ship="relay")) == ""
    assert credentials.need(replace(order, store=Access("s3://bucket"))) == "", "the box has a role of its own"


def test_a_reboot_empties_memory_and_the_run_wants_more(memory: Path, shared: str) -> None:
    order = ordered(shared)
    place = Path(credentials.put(shared, "mine", ending(900)))
    for path in (place, place.with_name(credentials.OF)):
        path.unlink()
    place.parent.rmdir()
    assert credentials.need(order) == "missing"
    assert credentials.credentials({"shared": shared, "runs": {"mine": ending(900)}})
    assert credentials.need(order) == ""


def test_those_of_runs_that_are_over_or_gone_are_swept(memory: Path, shared: str) -> None:
    orders = {run: ordered(shared, run) for run in ("over", "running", "gone", "coming")}
    places = {run: Path(credentials.put(shared, run, LONG)) for run in orders}
    when = "2026-01-01T00:00:00Z"
    state.write(state.folder(shared, "over"), State(run="over", phase="ended", when=when, code=0))
    state.write(state.folder(shared, "running"), State(run="running", phase="running", when=when))
    for run in ("gone", "coming"):
        (state.folder(shared, run) / state.ORDER).unlink()
    old = time.time() - 2 * credentials.YOUNG_S
    os.utime(str(orders["gone"].store.secrets), (old, old), follow_symlinks=False)
    lost = Path(credentials.put(shared, "lost", LONG))
    Path(Places(shared).secrets("lost")).unlink()
    os.utime(lost.with_name(credentials.OF), (old, old))
    credentials.sweep(shared)
    assert {run for run, place in places.items() if place.exists()} == {"running", "coming"}
    assert not lost.parent.exists()


def test_a_run_that_is_over_gets_none(memory: Path, shared: str) -> None:
    ordered(shared)
    state.write(state.folder(shared, "mine"), State(run="mine", phase="ended", when="2026-01-01T00:00:00Z", code=0))
    told = {"shared": shared, "runs": {"mine": SHORT, "never-heard-of": SHORT}}
    assert credentials.credentials(told) == {} and not list(memory.iterdir())


class Box(Door):
    """A door whose agent is asked in this process."""

    def ask(self, name: str, argument: Mapping[str, Any]) -> Any:
        assert name == "credentials"
        return credentials.credentials({"shared": self.profile.shared, **argument})


@pytest.fixture
def told(tmp_path: Path, shared: str) -> Store:
    """A store that knows of one run on the box; a folder stands for the bucket."""
    found = open_store(Access(str(tmp_path / "store")))
    facts = {"target": "box", "host": "box.example.org", "kind": "ssh", "ship": "direct", "folder": shared}
    found.access = Access("s3://bucket")  # what credentials are asked for
    found.create(keys.target("mine", 1), json.dumps(facts).encode())
    found.create(keys.target("relayed", 1), json.dumps({**facts, "ship": "relay"}).encode())
    found.create(keys.target("elsewhere", 1), json.dumps({**facts, "host": "other.example.org"}).encode())
    return found


def test_who_is_in_contact_brings_more_and_believes_the_store_alone(
    memory: Path, shared: str, told: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_settings(monkeypatch)
    minted = []

    def mint(access: Access, run: str) -> narrowing.Narrowed:
        minted.append(run)
        return narrowing.Narrowed(secrets=ending(900))

    monkeypatch.setattr(ours, "for_run", mint)
    runs = ("mine", "relayed", "elsewhere", "unheard-of")
    states = [State(run=run, phase="waiting", when="", credentials="missing") for run in runs]
    orders = {run: ordered(shared, run) for run in runs}
    door = Box(shell=Here(), profile=orders["mine"].profile, tools="")
    assert ours.renew(door, states, told) == ("mine",)
    assert minted == ["mine"], "nothing is asked of the cloud for runs that only the box tells of"
    assert credentials.need(orders["mine"]) == "" and credentials.need(orders["elsewhere"]) == "missing"
    fresh = [replace(states[0], credentials="")]
    assert ours.renew(door, fresh, told) == () and minted == ["mine"]


def test_long_lived_ones_never_go_to_the_disk_by_choice(shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = Profile(name="box", kind="ssh", host="h", shared=shared, credentials="disk")
    kinds = {"narrow": ending(900), "keys": LONG}
    for kind, secrets in kinds.items():
        made = narrowing.Narrowed(secrets=secrets, narrow=kind == "narrow", note=kind)
        monkeypatch.setattr(ours, "for_run", lambda access, run, made=made: made)
        what = ours.given(Access("s3://bucket"), "mine", profile, ship="direct")
        assert what.keep == ("disk" if kind == "narrow" else "memory") and what.store.secrets
        assert all(secret not in repr(what) for secret in secrets.values())


def test_a_relayed_run_gets_none(shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "for_run", lambda *_: pytest.fail("nothing is asked for"))
    what = ours.given(Access("s3://bucket"), "mine", Profile(name="box", kind="ssh", shared=shared), ship="relay")
    assert what.secrets is None and what.store.url == Places(shared).store() and what.store.secrets is None
    assert not what.argument("mine")["runs"]


def test_certificates_of_the_store_travel_with_its_settings(shared: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are a text already, and no secret."""
    from launcher.cli.sending import as_reached_there, secret_items

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "A")
    access = Access("s3://bucket", {"ca": "-----BEGIN CERTIFICATE-----\n" + "M" * 5000})
    assert len(secret_items(access)) == 1 and as_reached_there(access, Places(shared)).settings == access.settings
    monkeypatch.setattr(ours, "for_run", lambda *_: narrowing.Narrowed(secrets=SHORT))
    what = ours.given(access, "mine", Profile(name="box", kind="ssh", shared=shared), ship="direct")
    assert what.store.settings == access.settings
