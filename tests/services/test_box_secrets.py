"""What opens the store, on a box that is somebody else's: short-lived and of one run alone where the store can give
that, in memory in any case, and nowhere once the run is over."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from launcher import store as stores
from launcher.cache import Cache
from launcher.errors import AccessError
from launcher.store.access import Access
from tests.box_trials import CHAIN, WAIT, Client, Renter, judge, on_it, open_gate
from tests.boxes import Box, Boxes
from tests.clusters import wait_until
from tests.object_stores import ObjectStore, WithUsers, admin, moto, new_bucket

pytestmark = [pytest.mark.services, pytest.mark.slow]

NUMBERS = itertools.count(1)
TOKEN, PASSWORD = "ghp-of-nobody-else", "registry-password-of-nobody-else"
MEMORY = "/dev/shm/launcher-0"
STORAGE = ("s3:*",)
HELD = f"python chain_sweep.py {{start}} 2 {{pause}}; {WAIT}; exec {CHAIN}"  # it waits after two steps


def needle(secret: str) -> str:
    """Return a part of a secret that looks the same in JSON, in a URL and in a shell's quotes."""
    return str(max(re.findall(r"[A-Za-z0-9]+", secret), key=len))[:24]


@dataclass(kw_only=True)
class Owner(Renter):
    """Somebody who has more secrets than those of the store: a token of git's host, a registry's password."""

    def __post_init__(self) -> None:
        (self.home / ".docker").mkdir(parents=True)
        auths = {"auths": {"registry.example.org": {"auth": PASSWORD}}}
        (self.home / ".docker" / "config.json").write_text(json.dumps(auths))

    @property
    def surroundings(self) -> Mapping[str, str]:
        more = {"GITHUB_TOKEN": TOKEN, "DOCKER_CONFIG": str(self.home / ".docker"), "HOME": str(self.home)}
        return {**super().surroundings, **more}


@pytest.fixture(scope="module")
def server(boxes: Boxes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithUsers]:
    """A server of the client's side that knows its users, and what a session of theirs may do."""
    folder = tmp_path_factory.mktemp("moto")
    with moto(folder, boxes.site.host_address, INITIAL_NO_AUTH_ACTION_COUNT="3") as made:
        made = admin(made)
        yield WithUsers(endpoint=made.endpoint, bucket="", key=made.key, secret=made.secret)


@pytest.fixture
def bucket(server: WithUsers) -> WithUsers:
    return WithUsers(**vars(new_bucket(server)))


@pytest.fixture(scope="module")
def box(boxes: Boxes) -> Box:
    return boxes.new()


def owner(home: Path, box: Box, cache: Cache, bucket: ObjectStore, *words: str) -> Owner:
    home.mkdir()
    one = Owner(home=home, cache=cache.root, place=bucket.url, bucket=bucket, ssh_config=box.ssh_config)
    one.add(box, "--store", bucket.url, *words)
    return one


def experiment(person: Renter, steps: int = 12, command: str = CHAIN) -> tuple[Path, int]:
    start = next(NUMBERS)
    return person.experiment(f"quiet-{start}", start, steps=steps, command=command), start


@dataclass
class Watch:
    """Looks at all that anybody on the box can see of processes, for as long as it lasts."""

    box: Box
    needles: Sequence[str]
    seen: set[str] = field(default_factory=set)
    looks: int = 0

    def work(self, over: threading.Event) -> None:
        while not over.wait(0.1):
            for pid in self.box.processes():
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        self.judge(f"{name} of {pid}", Path(f"/proc/{pid}/{name}").read_bytes())
            self.looks += 1

    def judge(self, what: str, data: bytes) -> None:
        self.seen |= {f"{what}: {data!r}" for one in self.needles if one.encode() in data}


@contextlib.contextmanager
def watching(box: Box, *needles: str) -> Iterator[Watch]:
    watch, over = Watch(box, needles), threading.Event()
    thread = threading.Thread(target=watch.work, args=(over,), daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def on_disk(box: Box, *needles: str) -> list[str]:
    """Return the files that hold one of these, on all of the box's disk: its engine's images and containers too."""
    words = [word for one in needles for word in ("-e", one)]
    done = subprocess.run(["grep", "-rlFaI", "--binary-files=text", *words, str(box.disk)], capture_output=True)
    assert done.returncode in (0, 1, 2)  # 2: something went away, or is a socket
    return [name for name in done.stdout.decode(errors="replace").splitlines() if Path(name).is_file()]


def in_memory(box: Box, *needles: str) -> list[str]:
    """Return the files in the box's memory that hold one of these. The command that looks has none in its words."""
    wanted = "\n".join(needles).encode()
    done = box.exec(["grep", "-rlF", "-f", "-", "/dev/shm", "/run", "/tmp"], stdin=wanted, check=False)
    return done.stdout.decode(errors="replace").splitlines()


def told_by_engine(box: Box) -> str:
    """Return what the engine tells of all that it has."""
    return box.exec(["sh", "-c", "docker inspect $(docker ps -aq) $(docker images -aq) $(docker volume ls -q)"],
                    check=False).stdout.decode(errors="replace")  # fmt: skip


def nowhere(box: Box, person: Owner, said: str, *needles: str) -> None:
    """Hold all places but the box's memory to not having any of these."""
    assert on_disk(box, *needles) == []
    texts = [said, told_by_engine(box)]
    texts += [box.exec(["sh", "-c", "cat /root/.*history /root/.bash* 2>/dev/null"], check=False).stdout.decode()]
    assert all(one not in text for one in needles for text in texts)
    kept = [entry.key for entry in person.store.list("")]
    assert not [key for key, data in person.store.get_many(kept) if any(n.encode() in (data or b"") for n in needles)]


def files(box: Box) -> dict[str, dict[str, str]]:
    """Return the credentials that lie in the box's memory, by their files; all are their user's alone."""
    names = box.exec(["sh", "-c", f"find {MEMORY} -name store.json 2>/dev/null"], check=False).stdout.decode().split()
    found = {}
    for name in names:
        done = box.exec(["sh", "-c", f"stat -c %a:%u {name} && stat -c %a:%u {name.rpartition('/')[0]} && cat {name}"],
                        check=False)  # fmt: skip
        if not done.returncode:
            file, folder, text = done.stdout.decode().split("\n", 2)
            assert (file, folder) == ("600:0", "700:0")
            found[name] = json.loads(text)
    return found


def began(client: Client, line: str = "step 2") -> str:
    run = client.run()
    client.wait_for(line)
    return run


def test_a_session_of_the_run_alone_and_nothing_of_the_person(
    box: Box, bucket: WithUsers, shared_cache: Cache, tmp_path: Path
) -> None:
    person = owner(tmp_path / "laptop", box, shared_cache, bucket, "--ship", "direct")
    spec, start = experiment(person, command=HELD)
    long = (needle(bucket.secret), TOKEN, PASSWORD)
    with watching(box, *long) as watch, on_it(person, box, spec) as client:
        run = began(client)
        held = files(box)
        assert held, "the box has credentials while the run goes on"
        sessions = {one["secret_access_key"] for one in held.values()} | {one["session_token"] for one in held.values()}
        short = tuple(map(needle, sessions))
        watch.needles = (*long, *short)
        nowhere(box, person, client.said, *long, *short)
        assert not in_memory(box, *long) and in_memory(box, *short)
        opens_its_run_alone(bucket, run, next(iter(held.values())))
        open_gate(box)
        assert client.ended() == 0, client.said
    assert watch.looks > 5 and not watch.seen
    judge(person, run, start, 12)
    nowhere(box, person, client.said, *long, *short)
    wait_until(lambda: not in_memory(box, *long, *short), 30, "the credentials are gone with the run")
    assert "no credentials for this run alone" not in client.said


def opens_its_run_alone(bucket: ObjectStore, run: str, secrets: dict[str, str]) -> None:
    session = stores.open(Access(bucket.url, bucket.settings), lambda: secrets)
    assert session.exists(f"runs/{run}/job.json")
    whole = stores.open(Access(bucket.url, bucket.settings), lambda: bucket.credentials)
    whole.put("runs/other/job.json", b"{}")
    for refused in (
        lambda: session.get("runs/other/job.json"),
        lambda: session.put("runs/other/record.json", b"{}"),
        lambda: session.list("runs/other/"),
        lambda: session.list(""),
    ):
        with pytest.raises(AccessError):
            refused()
    whole.delete("runs/other/job.json")


def test_keys_that_can_t_be_narrowed_are_in_memory_for_as_long_as_the_run_is(
    box: Box, bucket: WithUsers, shared_cache: Cache, tmp_path: Path
) -> None:
    """The user may use the storage, and ask for no session."""
    user = replace(bucket.user("storage", STORAGE), bucket=bucket.bucket)
    person = owner(tmp_path / "laptop", box, shared_cache, user, "--ship", "direct")
    spec, start = experiment(person, command=HELD)
    long = (needle(user.secret), TOKEN, PASSWORD)
    with watching(box, *long) as watch, on_it(person, box, spec) as client:
        run = began(client)
        assert {one["secret_access_key"] for one in files(box).values()} == {user.secret}
        nowhere(box, person, client.said, *long)
        open_gate(box)
        assert client.ended() == 0, client.said
    assert watch.looks > 5 and not watch.seen
    judge(person, run, start, 12)
    assert "the box gets your keys as they are" in client.said, "a person is told, once"
    assert client.said.count("the box gets your keys") == 1
    nowhere(box, person, client.said, *long)
    wait_until(lambda: not in_memory(box, *long), 30, "the keys are gone with the run")


def test_a_relayed_run_needs_no_credentials_at_all(
    box: Box, bucket: WithUsers, shared_cache: Cache, tmp_path: Path
) -> None:
    person = owner(tmp_path / "laptop", box, shared_cache, bucket, "--ship", "relay")
    spec, start = experiment(person, steps=6, command=HELD)
    long = (needle(bucket.secret), TOKEN, PASSWORD)
    with watching(box, *long) as watch, on_it(person, box, spec) as client:
        run = began(client)
        assert files(box) == {} and not in_memory(box, *long)
        nowhere(box, person, client.said, *long)
        open_gate(box)
        assert client.ended() == 0, client.said
    assert not watch.seen
    judge(person, run, start, 6)
    nowhere(box, person, client.said, *long)


def test_a_reboot_empties_memory_and_a_status_brings_more(
    box: Box, bucket: WithUsers, shared_cache: Cache, tmp_path: Path
) -> None:
    person = owner(tmp_path / "laptop", box, shared_cache, bucket, "--ship", "direct")
    spec, start = experiment(person, steps=30)
    run = person.detached(box, spec)
    person.wait_for_step(run, 2)
    box.reboot()
    assert files(box) == {}

    def on_the_box() -> dict[str, Any]:
        [found] = person.json("status", "--on", box.name, run, codes=tuple(range(128)))
        return dict(found)

    wait_until(lambda: "waits for credentials" in str(on_the_box().get("why")), 120, "the run says what it waits for")
    person.call("status", run, codes=tuple(range(128)))
    wait_until(lambda: files(box), 60, "they were brought")
    back = Client(person, "attach", run)
    assert back.ended() == 0, f"{back.said}\n{person.told(run)}"
    judge(person, run, start, 30)


def test_what_nobody_needs_is_freed_and_what_is_here_alone_stays(box: Box, shared_cache: Cache, tmp_path: Path) -> None:
    """`launcher target clean`, on a box whose engine has an image of somebody else."""
    home = tmp_path / "laptop"
    home.mkdir()
    person = Renter(home=home, cache=shared_cache.root, place=str(home / "store"), ssh_config=box.ssh_config)
    person.add(box)
    spec, start = experiment(person, steps=3)
    run = person.detached(box, spec)
    box.exec(["sh", "-c", "tar c -C /etc hostname | docker import - somebody:else"])

    def phase() -> str:
        return str(person.json("status", "--on", box.name, run)[0]["phase"])

    wait_until(lambda: phase() == "ended", 240, "the run has ended")
    kept = person.json("target", "clean", box.name, "--all")
    assert kept["unsure"] == [run]
    assert not {"images", "engine", "layers"} & {one["kind"] for one in kept["removed"]}
    assert run not in {one["name"] for one in kept["removed"]}, "others that went before may go"
    person.call("pull", run)
    judge(person, run, start, 3)
    would = person.json("target", "clean", box.name, "--all", "--dry-run")
    assert {"runs", "images", "engine", "code"} <= {one["kind"] for one in would["found"]} and not would["removed"]
    freed = person.json("target", "clean", box.name, "--all")
    assert freed["bytes"] >= 50_000_000 and freed["unsure"] == []
    images = box.exec(["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]).stdout.decode().split()
    assert images == ["somebody:else"]
    assert not box.exec(["docker", "ps", "-aq"]).stdout
    again = person.json("target", "clean", box.name, "--all")["found"]
    assert {one["kind"] for one in again} <= {"tools"}, "this launcher may be another one by now"
    with on_it(person, box, spec, "-p", f"start={next(NUMBERS)}") as client:
        assert client.ended() == 0, client.said
