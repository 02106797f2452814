"""The phases of a merge: it is prepared, applied, and concluded or taken back. docs/merge.md has the order, and why.

Each phase can be done again from wherever it was cut short; `recover` does that from what the journal says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cowherd.errors import CowherdError, FlushFailed
from cowherd.herd.lineage.survey import survey_again
from cowherd.herd.machines.domains import require_unnamed
from cowherd.herd.machines.in_use import require_free
from cowherd.herd.merge.bystanders import KEEP_FOR_DOMAIN
from cowherd.herd.merge.chain import stands_on
from cowherd.herd.merge.concerned import require_concerned
from cowherd.herd.merge.faults import MergeInterrupted
from cowherd.herd.merge.fork import build_fork, complete_fork
from cowherd.herd.merge.plan import CONTENT, EMPTY, FORK, NOTHING
from cowherd.herd.records.journal import Phase
from cowherd.herd.repair.preserve import refresh_dependents
from cowherd.storage.presence import is_there
from cowherd.storage.transfer import take_name

if TYPE_CHECKING:
    from cowherd.herd.lineage.lineage import Lineage
    from cowherd.herd.lineage.scan import Image
    from cowherd.herd.merge.plan import MergePlan
    from cowherd.herd.merge.steps import Left, Steps
    from cowherd.herd.records.journal import Journal
    from cowherd.herd.records.sealrecord import SealRecord
    from cowherd.progress import Progress
    from cowherd.storage.holding import Holding


@dataclass(frozen=True, kw_only=True, eq=False)
class Begun:
    """A merge that has a journal, and how it ends.

    `lineage`: the herd when the locks were taken, `base`: the image to merge into, `held`: the locks, `journal`: how far the
    merge has come, `steps`: what changes the images.
    """

    lineage: Lineage
    base: Image
    held: Holding
    journal: Journal
    steps: Steps
    progress: Progress | None = None

    def take_back(self) -> list[Left]:
        """Ends a merge that has changed nothing that any disk shows. Overlays may hold more of what they showed before."""
        if self.journal.entry.temporary is not None:
            take_name(self.journal.entry.temporary)  # always a plain name of an unfinished file beside the base
        return self.conclude()

    def conclude(self) -> list[Left]:
        """Brings the seals of dependents, whose files have changed, up to date, and removes the journal."""
        self.held.close()
        entry = self.journal.entry
        left: list[Left] = []
        now = survey_again(self.lineage)  # files have changed, and some overlays stand on another base
        paths = {self.base.path, entry.fork or self.base.path}
        bases = [now.find(path, entry.base_format) for path in paths if is_there(path)]
        require_concerned(now, entry)
        for image in bases:
            left += refresh_dependents(now, image, self.progress)
        self.journal.remove()
        return left


@dataclass(frozen=True, kw_only=True, eq=False)
class Merge(Begun):
    """A merge that has its `plan`. `base` is the plan's."""

    plan: MergePlan

    def carry_out(self) -> list[Left]:
        """Carries out a merge whose journal was just written, and closes the journal; returns what is out of date afterwards.

        A merge that fails before the base changes is taken back. Raises `MergeInterrupted` if only `recover` can end it then.
        """
        try:
            self.prepare()
            self.journal.advance(Phase.APPLYING)
        except BaseException as error:
            self._take_back_after(error)
            raise
        try:
            return [*self._apply_or_complete(), *self.conclude()]
        except (CowherdError, OSError, KeyboardInterrupt) as error:
            raise self._interrupted_by(error) from error
        finally:
            self.journal.close()

    def prepare(self) -> None:
        """Does the work that changes nothing that any disk shows: serves the siblings, or builds the new base."""
        if self.plan.strategy == FORK:
            build_fork(self.lineage, self.plan, self.journal.entry, self.held, self.steps, self.progress)
        else:
            self.serve_siblings()

    def serve_siblings(self) -> None:
        """Gives the direct overlays of the base what they would lose."""
        self.steps.serve(self.plan.served, self.lineage.chain(self.plan.base), self.progress)

    def apply(self) -> list[Left]:
        """Does the steps that follow once the direct overlays of the base are served, up to giving up the overlay."""
        plan, steps, below = self.plan, self.steps, self.lineage.chain(self.plan.base)
        steps.apply_down(plan, below, self.progress)
        content = steps.verify(plan, below, plan.served, self.progress)
        record = steps.reseal(self.lineage, plan.base, content)
        left = [problem for one in plan.served for problem in steps.bind(one.image, record)]
        return left + self.give_up_overlay(plan.base, record)

    def complete_fork(self) -> list[Left]:
        """Gives the new base its name and seal, and gives up the overlay, whose own overlays are put on the new base."""
        target, record = complete_fork(self.lineage, self.plan.base, self.journal.entry, self.progress)
        return self.give_up_overlay(target, record)

    def give_up_overlay(self, target: Image, record: SealRecord | None) -> list[Left]:
        """Removes or empties the overlay, whose content `target` holds by now; overlays of a removed one are put on `target`."""
        overlay, keep, steps = self.plan.overlay, self.plan.keep, self.steps
        if keep != CONTENT:
            require_free([overlay], locks=False, held=self.held)
        left: list[Left] = []
        if keep == NOTHING:
            require_unnamed([overlay], "remove", KEEP_FOR_DOMAIN)
            for child in self.lineage.children(overlay):
                left += steps.put_on(child, target, record)
            steps.delete(overlay)
            return left
        if stands_on(self.lineage, overlay, target):
            left = steps.bind(overlay, record)
        elif keep == EMPTY:
            left = steps.put_on(overlay, target, record)
        if keep == EMPTY:
            steps.empty(overlay)
        return left

    def _apply_or_complete(self) -> list[Left]:
        return self.complete_fork() if self.plan.strategy == FORK else self.apply()

    def _take_back_after(self, error: BaseException) -> None:
        """Takes back a merge that has failed. Raises `MergeInterrupted` if only `recover` can do that."""
        try:
            if isinstance(error, FlushFailed):  # what may not be on the disk must be read from there first
                raise self._interrupted_by(error) from error
            try:
                self.take_back()
            except (CowherdError, OSError) as another:
                raise self._interrupted_by(another) from error
        finally:
            self.journal.close()

    def _interrupted_by(self, reason: BaseException) -> MergeInterrupted:
        return MergeInterrupted(self.plan.base.path, self.plan.overlay.path, self.journal.path, reason)
