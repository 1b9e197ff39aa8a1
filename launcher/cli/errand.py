"""Points of a plan, to a cluster: what of them is to be sent, what the site lacks, the submission itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from launcher.cli.progress import choose_progress

if TYPE_CHECKING:
    from launcher.cache import Cache
    from launcher.cli.opinion import Opinion
    from launcher.cli.preparing import Freight
    from launcher.cli.sending import Sent
    from launcher.job.sweeps import Plan
    from launcher.node.order import Order
    from launcher.profiles import Profile
    from launcher.records.standing import Standing
    from launcher.remote import Shell
    from launcher.slurm.door import Door
    from launcher.slurm.ledger import Ledger
    from launcher.slurm.model import Report, Submission
    from launcher.slurm.options import Asked
    from launcher.store.access import Access
    from launcher.store.objects import Store


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a submit came to: how the sweep stood before, which points were sent, and what Slurm said to it."""

    profile: Profile
    before: Standing
    sent: tuple[int, ...] = ()
    report: Report | None = None
    store: str = ""  # what a command has to say to find it
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Drafted:
    """What a submit would do: the submissions with what sbatch would be given."""

    before: Standing
    indices: tuple[int, ...]
    submissions: tuple[tuple[Submission, str, str], ...]  # with its order, and its batch script


@dataclass(frozen=True, kw_only=True)
class Errand:
    """Submits points of a plan to a target: those that `choose` returns of how the sweep stands."""

    profile: Profile
    opened: Store
    access: Access
    place: str | None
    cache: Cache
    freight: Callable[[], Freight]
    asked: Asked
    choose: Callable[[Standing], Sequence[int]]
    unmark: bool = False  # what was cancelled is wanted again

    def run(self, plan: Plan) -> Done:
        """Send what the site lacks, and submit. Whatever is raised, doing it again goes on from there."""
        from launcher.cli.execution import named_store
        from launcher.slurm import ledger as ledgers

        options = self.options(plan)
        ledger = ledgers.read(self.opened, plan.sweep)
        with self.shell() as shell:
            before, opinion = self.standing(plan, ledger, shell)
            done = Done(profile=self.profile, before=before, store=named_store(self.opened), notes=opinion.notes)
            indices = tuple(self.choose(before))
            if not indices and not ledger.open and not ledger.unborn:
                return done
            sent = self.send(plan, shell)
            report = self.submitted(plan, indices, ledger, sent, self.door(shell, sent), options)
        return replace(done, sent=indices, report=report)

    def options(self, plan: Plan) -> dict[str, Any]:
        """Return what sbatch is asked for. Raises TargetError with every reason why the site can't be."""
        from launcher.slurm.options import options

        return options(plan.job(0), self.profile, self.asked, pack=plan.pack)

    @contextlib.contextmanager
    def shell(self) -> Iterator[Shell]:
        from launcher import remote

        with contextlib.closing(remote.open(self.profile)) as shell:
            yield shell

    def standing(self, plan: Plan, ledger: Ledger, shell: Shell) -> tuple[Standing, Opinion]:
        """Say how the sweep stands: the target is asked only where something was submitted before."""
        from launcher.cli.opinion import second_opinion
        from launcher.cli.runs import listed
        from launcher.records import sweeps

        opinion = second_opinion(
            self.opened, plan.sweep, ask=bool(ledger.submissions), shells={self.profile.name: shell}
        )
        with listed(self.place) as runs:
            found = sweeps.read(self.opened, runs, plan, opinion)
        return found, opinion

    def send(self, plan: Plan, shell: Shell) -> Sent:
        from launcher.cli.sending import send

        return send(shell, self.profile, plan, self.freight(), self.access, self.cache, choose_progress())

    def door(self, shell: Shell, sent: Sent) -> Door:
        from launcher.slurm import door as doors

        return doors.open(shell, self.profile, sent.tools, sent.shared)

    def submitted(
        self,
        plan: Plan,
        indices: Sequence[int],
        ledger: Ledger,
        sent: Sent,
        door: Door,
        options: Mapping[str, Any],
    ) -> Report:
        from launcher.records.sweeps import cancelled
        from launcher.records.writing import user
        from launcher.slurm.cancelling import unmark
        from launcher.slurm.submission import submit

        marked = unmark(self.opened, plan.sweep, indices) if self.unmark else cancelled(self.opened, plan.sweep)
        return submit(
            self.opened,
            plan,
            indices,
            door=door,
            order=order(plan, sent, door.profile),
            options=options,
            known=ledger,
            cancelled=marked,
            who=user(),
        )

    def drafted(self, plan: Plan) -> Drafted:
        """Return what `run` would send. Nothing is written anywhere."""
        from launcher.cli.sending import imagined
        from launcher.slurm import door as doors
        from launcher.slurm import ledger as ledgers
        from launcher.slurm.submission import Writer, drafts

        options, ledger = self.options(plan), ledgers.read(self.opened, plan.sweep)
        with self.shell() as shell:
            before, _ = self.standing(plan, ledger, shell)
        indices = tuple(self.choose(before))
        sent = imagined(self.profile, plan, self.freight(), self.access)
        writer = Writer(order(plan, sent, self.profile), options)
        made = drafts(ledger, plan, indices, doors.here(self.profile)) if indices else []
        return Drafted(before=before, indices=indices, submissions=tuple((one, *writer.texts(one)) for one in made))


def order(plan: Plan, sent: Sent, profile: Profile) -> Order:
    """Return what tasks are told, but for what each submission has of its own."""
    from launcher.node.order import Order

    return Order(
        sweep=plan.sweep,
        token="",
        number=0,
        groups=(),
        plan=sent.plan,
        tools=sent.tools,
        profile=profile,
        store=sent.store,
        image=plan.shared.image,
        architecture=sent.architecture,
        code=sent.code,
        data=sent.data,
        who=plan.who,
    )
