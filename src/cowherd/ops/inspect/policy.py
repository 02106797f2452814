"""Which features an inspection lets through. What breaks the format is refused under every policy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cowherd.errors import InvalidRequest
from cowherd.ops.inspect.report import Check, note, refuse

FEATURES = (
    "backing-file",
    "bitmaps",
    "corrupt",
    "data-file",
    "empty",
    "encryption",
    "extended-l2",
    "foreign-content",
    "snapshots",
)
"""What a policy decides about."""

MOST_VIRTUAL_BYTES = (1 << 63) - 1
"""No disk of QEMU's is larger."""


@dataclass(frozen=True)
class Policy:
    """The features that are refused, and the largest disk in bytes that is let through."""

    name: str
    refused: frozenset[str]
    max_size: int = MOST_VIRTUAL_BYTES

    def judge(self, feature: str, detail: str) -> Check:
        """Returns what the image's use of a feature comes to: a refusal, or a note."""
        return refuse(feature, detail) if feature in self.refused else note(feature, detail)


POLICIES = {
    "untrusted": Policy("untrusted", frozenset(FEATURES) - {"extended-l2"}),
    "glance": Policy("glance", frozenset({"backing-file", "corrupt", "data-file", "empty", "extended-l2", "foreign-content"})),
    "trusted": Policy("trusted", frozenset()),
}


def find_policy(name: str, allow: Iterable[str] = (), max_size: int | None = None) -> Policy:
    """Returns a policy by name, less the features that the caller allows. Raises `InvalidRequest`."""
    allowed = frozenset(allow)
    if name not in POLICIES:
        raise InvalidRequest(f"there is no policy {name!a}; there are {', '.join(POLICIES)}")
    if strange := sorted(allowed.difference(FEATURES)):
        raise InvalidRequest(f"{strange[0]!a} can't be allowed; what can is {', '.join(FEATURES)}")
    policy = POLICIES[name]
    return replace(policy, refused=policy.refused - allowed, max_size=policy.max_size if max_size is None else max_size)
