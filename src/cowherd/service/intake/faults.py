"""The errors of the intake.

CowherdError
    Refused             an inspection found that the bytes must not be kept
    SignatureRefused    the signature of an image is not that of its bytes, or can't be verified
    LengthDiffers       more or fewer bytes came than were announced
    OffsetDiffers       bytes came for another place than where an upload goes on
    DigestsDiffer       the bytes are not those that were announced
    TooLarge            more bytes than are accepted
    StoreFull           no room for what arrives
"""

from __future__ import annotations

from cowherd.errors import CowherdError
from cowherd.text import printable


class Refused(CowherdError):
    """The bytes of an image were refused. Attributes: `check` (its name, as in "backing-file"), `detail` (what was found)."""

    def __init__(self, check: str, detail: str):
        self.check, self.detail = check, detail

    def __str__(self) -> str:
        return f"The image was refused by the check '{self.check}': {self.detail}. Nothing of it was kept"


class SignatureRefused(CowherdError):
    """The signature that an image states was not verified. Attributes: `problem`."""

    def __init__(self, problem: str):
        self.problem = problem

    def __str__(self) -> str:
        return f"The signature of the image could not be verified: {self.problem}. Nothing of the image was kept"


class LengthDiffers(CowherdError):
    """Not as many bytes came as were announced. Attributes: `announced`, `received` (bytes)."""

    def __init__(self, announced: int, received: int):
        self.announced, self.received = announced, received

    def __str__(self) -> str:
        return (
            f"{self.received} bytes came, and {self.announced} were announced; nothing of them was kept. Upload the image again"
        )


class TooLarge(CowherdError):
    """An image has more bytes than are accepted. Attributes: `size` (at least that many), `most` (bytes)."""

    def __init__(self, size: int, most: int):
        self.size, self.most = size, most

    def __str__(self) -> str:
        return (
            f"The image has {self.size} bytes or more, and at most {self.most} are accepted. Upload a smaller one, or have "
            f"image_size_cap raised"
        )


class OffsetDiffers(CowherdError):
    """Bytes came for another place than the one at which an upload goes on. Attributes: `expected`, `given` (bytes)."""

    def __init__(self, expected: int, given: int):
        self.expected, self.given = expected, given

    def __str__(self) -> str:
        return f"The upload goes on at {self.expected}, and the bytes are for {self.given}. Ask where it goes on"


class DigestsDiffer(CowherdError):
    """Bytes do not hash to what was announced. Attributes: `algorithm`."""

    def __init__(self, algorithm: str):
        self.algorithm = algorithm

    def __str__(self) -> str:
        return f"The bytes do not have the {self.algorithm} that was announced, and were dropped. Send them again"


class StoreFull(CowherdError):
    """A store has no room for what arrives. Attributes: `store` (its name), `needed`, `free` (bytes; None: not known)."""

    def __init__(self, store: str, needed: int | None = None, free: int | None = None):
        self.store, self.needed, self.free = store, needed, free

    def __str__(self) -> str:
        room = "" if self.free is None else f": it has {self.free} bytes free"
        wanted = "" if self.needed is None else f", and {self.needed} are needed"
        return f"There is no room in the store '{printable(self.store)}'{room}{wanted}. Delete images, or name another store"
