"""A suite's Release file: fetched, its signature verified, its age judged, its checksums read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from launcher.cache import Cache
from launcher.credentials import shown
from launcher.digest import sha256_bytes
from launcher.errors import FetchError
from launcher.indexes.apt import Mirror
from launcher.indexes.apt_keys import Keys, keys_of, signed_text
from launcher.indexes.apt_web import Answer, Web
from launcher.progress import Progress

SUM = re.compile(r"^ ([0-9a-f]{64}) +(\d+) +(\S+)$", re.MULTILINE)
TIME = re.compile(r"[A-Z][a-z]{2}, +(\d{1,2}) ([A-Z][a-z]{2}) (\d{4}) +(\d{1,2}):(\d\d):(\d\d) (?:UTC|GMT|Z|\+0000)$")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
AHEAD = timedelta(minutes=5)
REPLAY = "an old index may be replayed to hide security updates: choose a mirror that is up to date"


@dataclass(frozen=True, kw_only=True)
class Release:
    """What a verified Release file says (DebianRepository/Format). `sums` maps a path to (sha256, size)."""

    mirror: Mirror
    suite: str  # its folder below dists/
    fields: Mapping[str, str]
    sums: Mapping[str, tuple[str, int]]

    @property
    def origin(self) -> str:
        return self.fields.get("Origin", "")

    @property
    def codename(self) -> str:
        return self.fields.get("Codename", self.suite)

    @property
    def by_hash(self) -> bool:
        return self.fields.get("Acquire-By-Hash", "").lower() == "yes"

    @property
    def place(self) -> str:
        return f"{self.mirror.root}/dists/{self.suite}"

    def time(self, name: str) -> datetime | None:
        """Return a time field as UTC; None when it isn't there. Raises FetchError."""
        said = self.fields.get(name)
        return read_time(said, f"{shown(self.place)}/Release") if said else None


def fetch_release(web: Web, mirror: Mirror, suite: str, cache: Cache, progress: Progress) -> Release | None:
    """Return the verified Release of a suite; None when the mirror has no such suite.

    An unchanged file costs one small request: its verified text is kept in the cache, together with the keys that
    it was verified with. Raises FetchError when the signature, the suite's name or the age isn't right.
    """
    place = f"{mirror.root}/dists/{suite}"
    keys = keys_of(mirror.signed_by, mirror.where, mirror.distribution)
    slot = sha256_bytes(place.encode())
    kept = kept_text(cache, slot, keys)
    answer = web.get(f"{place}/InRelease", **(kept.validators if kept else {}))
    fresh = verified(web, place, answer, kept, keys, cache)
    if fresh is None:
        return None
    text = newer(fresh, kept, shown(place), progress)
    release = parse_release(text, mirror, suite)
    check_name(release)
    check_age(release, datetime.now(timezone.utc), progress)
    if answer is not None and answer.body is not None and text is fresh:
        keep(cache, slot, keys, answer, text)
    return release


def verified(web: Web, place: str, answer: Answer | None, kept: Kept | None, keys: Keys, cache: Cache) -> bytes | None:
    """Return the signed text behind an answer: the kept one when nothing changed; None when there is no such suite."""
    if answer is None:
        return fetch_detached(web, place, keys, cache)
    if kept and (answer.body is None or sha256_bytes(answer.body) == kept.signed):
        return kept.text
    return verify(answer.body or b"", None, keys, cache, f"{place}/InRelease")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The last verified text of a suite, and how to ask whether it is still current."""

    text: bytes
    signed: str  # sha256 of the InRelease as it came
    validators: Mapping[str, str | None]


def kept_text(cache: Cache, slot: str, keys: Keys) -> Kept | None:
    """Return what was verified before with exactly these keys."""
    note = cache.note("apt-release", slot)
    if not isinstance(note, dict) or note.get("keys") != keys.digest:
        return None
    path = cache.find("artifacts", str(note["text"]))
    validators = {"etag": note["etag"], "modified": note["modified"]}
    return Kept(text=path.read_bytes(), signed=note["signed"], validators=validators) if path else None


def keep(cache: Cache, slot: str, keys: Keys, answer: Answer, text: bytes) -> None:
    note = {"keys": keys.digest, "signed": sha256_bytes(answer.body or b""), "text": sha256_bytes(text)}
    if cache.note("apt-release", slot) == {**note, "etag": answer.etag, "modified": answer.modified}:
        return
    with cache.scratch() as scratch:
        (scratch / "text").write_bytes(text)
        cache.adopt("artifacts", sha256_bytes(text), scratch / "text")
    cache.write_note("apt-release", slot, {**note, "etag": answer.etag, "modified": answer.modified})


def fetch_detached(web: Web, place: str, keys: Keys, cache: Cache) -> bytes | None:
    """Fetch and verify Release with Release.gpg, for a mirror without InRelease."""
    release = web.get(f"{place}/Release")
    if release is None or release.body is None:
        return None
    signature = web.get(f"{place}/Release.gpg")
    if signature is None or signature.body is None:
        raise FetchError(
            f"{shown(place)}/Release is not signed",
            hint="an index without a signature is never used; name a mirror that signs its indexes",
        )
    return verify(release.body, signature.body, keys, cache, f"{place}/Release")


def verify(message: bytes, signature: bytes | None, keys: Keys, cache: Cache, url: str) -> bytes:
    with cache.scratch() as scratch:
        return signed_text(message, signature, keys, Path(scratch), shown(url))


def parse_release(text: bytes, mirror: Mirror, suite: str) -> Release:
    """Read the fields and the SHA256 sums of a Release file."""
    body = text.decode(errors="replace").replace("\r\n", "\n")
    head = dict(re.findall(r"^([A-Za-z][A-Za-z0-9-]*): (.*)$", body, re.MULTILINE))
    listed = re.search(r"^SHA256:[ \t]*\n((?: .*\n?)*)", body, re.MULTILINE)
    sums = {path: (digest, int(size)) for digest, size, path in SUM.findall(listed[1] if listed else "")}
    return Release(mirror=mirror, suite=suite, fields=head, sums=sums)


def read_time(said: str, place: str) -> datetime:
    """Read a time such as `Sat, 11 Jul 2026 10:16:37 UTC`."""
    found = TIME.match(said)
    try:
        if found is None:
            raise ValueError("it has another form")
        day, month, year, hour, minute, second = found.groups()
        date = (int(year), 1 + MONTHS.index(month), int(day))
        return datetime(*date, int(hour), int(minute), int(second), tzinfo=timezone.utc)
    except ValueError as e:
        raise FetchError(f"{place}: `{said}` is not a time in UTC", hint="the mirror is broken: name another") from e


def newer(fresh: bytes, kept: Kept | None, place: str, progress: Progress) -> bytes:
    """Prefer the text that was seen before when a mirror goes back in time, as apt does."""
    if kept is None or kept.text == fresh:
        return fresh
    now, then = date_of(fresh, place), date_of(kept.text, place)
    if now is None or then is None or now >= then:
        return fresh
    progress.note(f"{place} has gone back from {then:%F} to {now:%F}: the newer index, seen before, is used")
    return kept.text


def date_of(text: bytes, place: str) -> datetime | None:
    said = re.search(rb"^Date: (.*)$", text, re.MULTILINE)
    return read_time(said[1].decode(errors="replace"), place) if said else None


def check_name(release: Release) -> None:
    """Refuse a Release of another suite: a signed file in the wrong folder is a trick, or a broken mirror."""
    names = {release.fields.get("Suite"), release.fields.get("Codename")}
    if release.suite not in names:
        said = " and ".join(sorted(name for name in names if name)) or "nothing"
        raise FetchError(
            f"{shown(release.place)} calls itself {said}, not {release.suite}",
            hint="the mirror is broken: name another",
        )


def check_age(release: Release, now: datetime, progress: Progress) -> None:
    """Refuse an expired Release, or one from the future, unless this machine's apt is told not to mind."""
    date, until = release.time("Date"), release.time("Valid-Until")
    place, mirror = shown(release.place), release.mirror
    if date and date > now + AHEAD and mirror.check_date:
        raise FetchError(f"{place} is from the future ({date:%F %R})", hint="set the clock of this machine")
    if until is None or until > now:
        return
    if mirror.check_valid_until:
        raise FetchError(f"{place} expired on {until:%F}: it is no longer vouched for", hint=REPLAY)
    progress.note(f"{place} expired on {until:%F}; it is used because this machine's apt has Check-Valid-Until off")
