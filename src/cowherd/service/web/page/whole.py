"""How whole all that is stored is, how far the verification is behind, and what the stores hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cowherd.pages.markup import Severity, count_of, marked, text
from cowherd.service.web.page.disk import fill_of
from cowherd.service.web.page.words import ago, size_of, span_of
from cowherd.service.web.page.work import table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from cowherd.service.records.soundness import StoreState
    from cowherd.service.web.call import Call
    from cowherd.service.web.page.facts import Facts, Whole

_WRONG = "damaged or missing"
_STORE_COLUMNS = ("store", "state", "contents", "damaged", "missing", "verified at least", "taken", "free")


def cards(facts: Facts) -> Iterator[str]:
    """Yields the figures at the head of the page."""
    yield "<ul class=facts>"
    for value, what in _figures(facts):
        yield f"<li{' class=bad' if what == _WRONG and value != '0' else ''}><strong>{value}</strong>{what}</li>"
    yield "</ul>"


def soundness(call: Call, facts: Facts) -> Iterator[str]:
    """Yields whether what the caller may know of is whole."""
    if facts.whole is None:
        told = (Severity.BAD, "Images of your project are not whole:") if facts.bad else (Severity.GOOD, _ALL_YOURS)
        yield f"<p class=verdict>{marked(*told)}</p>"
        return
    yield from _of_service(call, facts.whole, facts.now)


_ALL_YOURS = "All content of your project's images is whole, as far as it was read."


def stores(call: Call, whole: Whole, now: datetime) -> Iterator[str]:
    """Yields the stores, and what is saved by storing the same bytes once."""
    yield from table("stores", _STORE_COLUMNS, (_store(call, name, state, now) for name, state in whole.stores.items()))
    if not whole.sums.stored:
        return
    saved = whole.sums.named - whole.sums.stored
    yield f"<p>All images have {size_of(whole.sums.named)} in sum, and each content is stored once: {size_of(whole.sums.stored)}."
    if saved > 0:
        yield f" That saves {size_of(saved)} ({saved / whole.sums.named:.1%})."
    yield "</p>"


def _figures(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.whole is not None:
        states = facts.whole.stores.values()
        yield _counted(facts.whole.sums.images, "image")
        yield size_of(facts.whole.sums.stored), "stored"
        yield f"{sum(one.damaged + one.missing for one in states):,}", _WRONG
        yield f"{sum(one.late for one in states):,}", "late to be verified"
    if facts.usage is not None:
        yield f"{facts.usage.images:,}", "your project's images"
        yield size_of(facts.usage.bytes), "their content"
    uploads, noun = _counted(facts.uploads_in_all, "upload")
    yield uploads, f"{noun} under way"
    yield f"{facts.failures_in_all:,}", "refused in 90 days"


def _counted(number: int, noun: str) -> tuple[str, str]:
    count, _, nouns = count_of(number, noun).partition(" ")
    return count, nouns


def _of_service(call: Call, whole: Whole, now: datetime) -> Iterator[str]:
    contents, late = (sum(getattr(one, what) for one in whole.stores.values()) for what in ("contents", "late"))
    yield f"<p class=verdict>{marked(*_verdict(call, whole, contents, late))}</p>"
    if contents:
        yield f"<p>{_progress(call, whole, late, now)}</p>"


def _verdict(call: Call, whole: Whole, contents: int, late: int) -> tuple[Severity, str]:
    """Returns the answer to the question of the section, and how bad it is."""
    damaged, missing = (sum(getattr(one, what) for one in whole.stores.values()) for what in ("damaged", "missing"))
    silent = [f"<bdi class=name>{text(name)}</bdi>" for name in whole.stores if fill_of(call.service.stores[name]).problem]
    wrong = [f"{count_of(count, 'content')} {what}" for count, what in ((damaged, "damaged"), (missing, "missing")) if count]
    if wrong:
        return Severity.BAD, f"No: {', '.join(wrong)}."
    if silent:
        return Severity.BAD, f"Nobody can tell: these stores can't be read: {', '.join(silent)}."
    if not contents:
        return Severity.QUIET, "Nothing is stored yet."
    if late:
        return Severity.WARN, "Nothing damaged is known, but not all was verified in time."
    return Severity.GOOD, "Yes: all that is stored was verified, and is as it was accepted."


def _progress(call: Call, whole: Whole, late: int, now: datetime) -> str:
    """Returns how far the verification is."""
    settings = call.service.settings
    eldest = [one.eldest for one in whole.stores.values() if one.contents > one.missing]
    never = any(moment is None for moment in eldest)
    last = "Some of it was never verified." if never else _oldest([one for one in eldest if one is not None], now)
    if not late:
        return f"Each content is read again every {count_of(settings.scrub_days, 'day')}. {last}"
    about = "" if whole.late_exactly else "about "
    pace = f", which takes {about}{span_of(whole.late / settings.scrub_rate)}" if settings.scrub_rate else ""
    behind = f"{count_of(late, 'content')}, {about}{size_of(whole.late)}, not verified for {count_of(settings.scrub_days, 'day')}"
    return f"Behind: {behind}{pace}. {last}"


def _oldest(moments: list[datetime], now: datetime) -> str:
    return f"The oldest verification was {ago(min(moments), now)}." if moments else ""


def _store(call: Call, name: str, state: StoreState, now: datetime) -> str:
    fill = fill_of(call.service.stores[name])
    is_whole = not (state.damaged or state.missing or fill.problem)
    words = marked(Severity.GOOD, "whole") if is_whole else marked(Severity.BAD, "not readable" if fill.problem else "not whole")
    meter = f"<meter max=1 value={fill.taken:.3f} aria-label='part that is taken'></meter> {fill.taken:.0%}"
    taken, free = (text(fill.problem), "?") if fill.problem else (meter, size_of(fill.free))
    verified = ago(state.eldest, now) if state.contents > state.missing else "-"
    cells = (f"{state.contents:,}", f"{state.damaged:,}", f"{state.missing:,}", verified, taken, free)
    shown = f"<bdi class=name>{text(name)}</bdi>{' <small>uploads go here</small>' if name == call.service.default_store else ''}"
    return f"<tr><th scope=row>{shown}</th><td>{words}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
