"""How large the benchmark's images are."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40
_COUNTS = ("herd", "overlays", "few_overlays", "many", "requests", "scattered")


@dataclass(frozen=True)
class Scale:
    """Sizes in bytes, and counts.

    `image` and `small` are disks with 40 % data, `overlay` is the data of an overlay to commit, `mapped` an image without any.
    """

    factor: float
    image: int
    small: int
    overlay: int
    mapped: int
    depths: tuple[int, int, int]
    herd: int
    overlays: int
    few_overlays: int
    many: int
    requests: int
    scattered: int
    herds: tuple[int, int, int]

    def fill(self, title: str) -> str:
        """`title` with the sizes of this scale where it has names in braces."""
        sizes = {name: size(getattr(self, name)) for name in ("image", "small", "overlay", "mapped")}
        counts = {name: f"{getattr(self, name):,}" for name in _COUNTS}
        return title.format(**sizes, **counts, herds=self.herds, few=self.depths[0], shallow=self.depths[1], deep=self.depths[2])


def scale(factor: float = 1.0) -> Scale:
    """The full sizes times `factor`; the number of layers and of images stays as it is from 1/4 up, and is a tenth below."""
    tenth = 10 if factor < 0.25 else 1
    return Scale(
        factor=factor,
        image=_rounded(4 * GIB * factor),
        small=_rounded(GIB * factor),
        overlay=_rounded(GIB * factor),
        mapped=_rounded(TIB * factor),
        depths=(10, 50, 400) if tenth == 1 else (4, 10, 80),
        herd=1000 // tenth,
        many=100_000 // tenth,
        overlays=100 // tenth,
        few_overlays=30 if tenth == 1 else 4,
        requests=50_000 // tenth,
        scattered=20_000 // tenth,
        herds=(10, 1_000 // tenth, 20_000 // tenth),
    )


def size(count: float) -> str:
    """`count` bytes for people: "4 GiB", "1.5 MiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def _rounded(count: float) -> int:
    return max(8 << 20, int(count) >> 20 << 20)


QUICK = scale(1 / 32)
FULL = scale()
