"""Policies: which features an inspection accepts. Every policy refuses an image that breaks the format."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cowherd.errors import InvalidRequest
from cowherd.ops.inspect.report import Check, note, refuse
from cowherd.sizes import size_in_bytes

if TYPE_CHECKING:
    from cowherd.sizes import Size

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
"""The features that a policy decides about."""

MOST_VIRTUAL_BYTES = (1 << 63) - 1
"""Bytes of the largest disk that QEMU can have."""


@dataclass(frozen=True)
class Policy:
    """The features that are refused, and the largest disk that is accepted, in bytes."""

    name: str
    refused: frozenset[str]
    max_size: int = MOST_VIRTUAL_BYTES

    def judge(self, feature: str, detail: str) -> Check:
        """Returns a refusal if the policy refuses the feature, else a note."""
        return refuse(feature, detail) if feature in self.refused else note(feature, detail)


POLICIES = {
    "untrusted": Policy("untrusted", frozenset(FEATURES) - {"extended-l2"}),
    "glance": Policy("glance", frozenset({"backing-file", "corrupt", "data-file", "empty", "extended-l2", "foreign-content"})),
    "trusted": Policy("trusted", frozenset()),
}


def find_policy(name: str, allow: str | Iterable[str] = (), max_size: Size | None = None) -> Policy:
    """Returns a policy by name, with the features in `allow` accepted. Raises `InvalidRequest` for unknown names."""
    allowed = frozenset([allow] if isinstance(allow, str) else allow)
    if name not in POLICIES:
        raise InvalidRequest(f"there is no policy {name!a}; there are {', '.join(POLICIES)}")
    if strange := sorted(allowed.difference(FEATURES)):
        raise InvalidRequest(f"{strange[0]!a} can't be allowed; what can is {', '.join(FEATURES)}")
    policy = POLICIES[name]
    most = policy.max_size if max_size is None else size_in_bytes(max_size)
    return replace(policy, refused=policy.refused - allowed, max_size=most)
