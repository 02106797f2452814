"""The errors of stores.

CowherdError
    BlobMissing     a store has no blob with a digest
    SumsDamaged     what is recorded beside a blob of its pieces can't be believed
"""

from __future__ import annotations

from cowherd.errors import CowherdError
from cowherd.text import printable


class BlobMissing(CowherdError):
    """A store has no blob with that digest. Attributes: `store` (its name), `digest` (64 hexadecimal digits)."""

    exit_code = 4

    def __init__(self, store: str, digest: str):
        self.store, self.digest = store, digest

    def __str__(self) -> str:
        return f"the store '{printable(self.store)}' has no blob {self.digest}; fetch it from another store, or upload it again"


class StillArriving(CowherdError):
    """Somebody else is appending to a file that arrives. Attributes: `store` (its name), `temporary` (the file's name in it)."""

    def __init__(self, store: str, temporary: str):
        self.store, self.temporary = store, temporary

    def __str__(self) -> str:
        return f"what arrives in the store '{printable(self.store)}' as {self.temporary} is held; wait until who holds it ends"


class SumsDamaged(CowherdError):
    """The sums of a blob are damaged, or those of another blob. Attributes: `digest` (the blob's), `problem`."""

    exit_code = 4

    def __init__(self, digest: str, problem: str):
        self.digest, self.problem = digest, problem

    def __str__(self) -> str:
        return (
            f"the sums of blob {self.digest} can't be used: {self.problem}; they can be made again from the blob if it is whole"
        )
