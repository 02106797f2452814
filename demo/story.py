"""The story of one herd, chapter by chapter. Whatever a chapter says is checked with other tools than cowherd's guard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import activity
import blocks
from blocks import BLOCK
from filesystem import CLEAN, UNCORRECTED, FileSystem, Script, collect
from stage import Stage

import cowherd
from cowherd.image.open import open_disk

OVERLAYS = ("busy", "quiet", "fresh")
SOURCES = ("/usr/share", "/usr/lib")
FILE_BYTES, FILE_COUNT = 32 << 20, range(400, 5001)
DISK_SIZE = 200 << 20


class Story:
    """A herd in `folder`/herd, with the raw disks that e2fsprogs work on in folders beside it, where cowherd doesn't look."""

    def __init__(self, stage: Stage, folder: Path):
        self.stage, self.folder, self.herd = stage, folder, folder / "herd"
        self.files: list[str] = []
        self.overlays_written = 0
        self._digests: dict[str, str] = {}
        self._upgraded: dict[str, str] = {}
        stage.folder = self.herd
        for name in ("herd/backup", "disks", "seen", "payload"):
            (folder / name).mkdir(parents=True)

    def tell(self) -> None:
        """Tells it all. Raises `StoryBroken` where it does not go as it should."""
        self.build()
        self.seal()
        self.refuse()
        self.tamper()
        self.notice()
        self.prove()
        self.repair()
        self.preserve()

    def build(self) -> None:
        """A base made from files of this machine, and three overlays with the writes of their guests."""
        self.stage.chapter("1. A base and three overlays")
        self._make_disk()
        self.stage.say(
            f"An ext4 disk of {DISK_SIZE >> 20} MiB with {len(self.files)} files of this machine on it, made by mke2fs.",
            "It becomes the base of three machines; a compressed copy of it is kept, as for any backup.",
        )
        self.stage.run("cowherd-img convert -f raw -O qcow2 ../disks/base.raw base.qcow2")
        self.stage.run("cowherd-img convert -c -O qcow2 -o compression_type=zstd base.qcow2 backup/base.qcow2")
        for name in OVERLAYS:
            self.stage.run(f"cowherd clone base.qcow2 {name}.qcow2")
        self.stage.say("Then their guests write. What e2fsprogs' own ext4 driver changes on each disk goes into its overlay:")
        for name in OVERLAYS:
            self._digests[name] = self._guest_writes(name)

    def _make_disk(self) -> None:
        tree = self.folder / "tree"
        self.files = collect(SOURCES, tree, FILE_BYTES, FILE_COUNT)
        for folder in activity.FOLDERS:
            (tree / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
        FileSystem(self.stage, self._disk("base")).make(tree, DISK_SIZE)
        shutil.rmtree(tree)

    def _guest_writes(self, name: str) -> str:
        """Lets a guest work on its disk and brings what it changed into its overlay; returns the digest of the disk."""
        scripts: dict[str, Callable[[Path, Sequence[str]], Script]] = {"busy": activity.busy, "quiet": activity.quiet}
        if name in scripts:
            self._change_disk(name, scripts[name])
        disk = self._disk(name if name in scripts else "base")
        with cowherd.open(self.herd / f"{name}.qcow2", writable=True) as overlay:
            written = blocks.copy_differences(self._disk("base"), disk, overlay)
        digest = blocks.digest(disk)
        statement = f"{name}.qcow2: the guest wrote {_amount(written)}, and the overlay reads as the guest's disk"
        self.stage.claim(self._content(name) == digest, statement)
        self.overlays_written += written
        return digest

    def _change_disk(self, name: str, activity_of: Callable[[Path, Sequence[str]], Script]) -> Script:
        """Makes the disk `name`, a copy of the base's with some activity on it; returns what was done."""
        disk, payload = self._disk(name), self.folder / "payload" / name
        payload.mkdir()
        script = activity_of(payload, self.files)
        self.stage.ask("cp", "--sparse=always", "--reflink=auto", self._disk("base"), disk)
        FileSystem(self.stage, disk).change(script)
        return script

    def seal(self) -> None:
        """The base was sealed by the first clone; now its file is protected too."""
        self.stage.chapter("2. The seal")
        self.stage.say(
            "The first clone sealed the base: base.qcow2.seal holds a digest of each 64 KiB of what it shows its guests,",
            "and each overlay's header holds the digest of the whole. Now the file is protected too:",
        )
        self.stage.run("cowherd seal base.qcow2 --level readonly")
        tree = self.stage.run("cowherd tree")
        self.stage.claim(tree.count("─ ") == len(OVERLAYS), "the tree shows three overlays under the base")
        self.stage.run("cowherd verify")

    def refuse(self) -> None:
        """What qemu-img does without a word, cowherd-img refuses."""
        self.stage.chapter("3. Prevented: a commit into a shared base")
        self.stage.say("qemu-img would merge an overlay into a base that others stand on, and say nothing. cowherd-img refuses:")
        before = blocks.digest(self.herd / "base.qcow2")
        self.stage.run("cowherd-img commit quiet.qcow2", 3)
        self.stage.claim(blocks.digest(self.herd / "base.qcow2") == before, "not a byte of the base's file has changed")

    def tamper(self) -> None:
        """The base is changed by something that knows nothing of seals."""
        self.stage.chapter("4. Behind cowherd's back")
        self.stage.say(
            "Somebody lifts the protection and upgrades the base itself with another tool:",
            f"{activity.NEW_FILES} new files, {activity.REMOVED_FILES} removed.",
        )
        self._upgraded = self._change_disk("upgraded", activity.upgrade).written
        self._digests["upgraded"] = blocks.digest(self._disk("upgraded"))
        self._upgrade_base()
        self.stage.say("Plain checks look at one image's own tables, and find nothing:")
        for program in ("cowherd-img", "qemu-img"):
            if self.stage.has(program):
                self.stage.run(f"{program} check quiet.qcow2", at_most=1)
                others = [self.stage.ask(program, "check", f"{name}.qcow2") for name in ("base", "busy", "fresh")]
                silent = all("No errors were found" in answer for answer in others)
                self.stage.claim(silent, f"{program} check says the same of base.qcow2, busy.qcow2 and fresh.qcow2")

    def _upgrade_base(self) -> None:
        self.stage.run("chmod u+w base.qcow2")
        with open_disk(self.herd / "base.qcow2", writable=True) as base:  # the plain engine: no gate stands before it
            blocks.copy_differences(self._disk("base"), self._disk("upgraded"), base)

    def notice(self) -> None:
        """Verify notices, and impact says whom it hits."""
        self.stage.chapter("5. Noticed: verify and impact")
        self.stage.say("The quick check reads no data, and yet sees that the base's file is not as its seal left it:")
        self.stage.run("cowherd verify", 4)
        self.stage.say("The full one compares its content with the seal:")
        self.stage.run("cowherd verify --full base.qcow2", 4)
        self.stage.say("Whom does the change hit?")
        self.stage.run("cowherd impact base.qcow2", 4)

    def prove(self) -> None:
        """The verdicts are held against what the disks really look like."""
        self.stage.chapter("6. Is that true? What e2fsck and the bytes say")
        self.stage.say(
            "Each overlay is read out as the disk that its guest would find now, and compared with the disk that it left."
        )
        found = json.loads(self.stage.ask("cowherd", "impact", "base.qcow2", "--json", codes=(4,)))
        changed = blocks.different(self._disk("base"), self._disk("upgraded"), BLOCK)
        self.stage.claim(
            found["changed"] == blocks.as_ranges(changed, BLOCK), f"the changed ranges are right: {len(changed)} blocks of 64 KiB"
        )
        hits = {Path(hit["path"]).stem: hit for hit in found["overlays"]}
        self.stage.claim(sorted(hits) == sorted(OVERLAYS), "impact names every overlay")
        for name in OVERLAYS:
            self._prove_ranges(name, hits[name], changed)
        self._prove_intact(hits["busy"])
        self._prove_synchronised(hits["fresh"])
        self._prove_torn(hits["quiet"])

    def _prove_ranges(self, name: str, hit: dict[str, list[list[int]]], changed: list[int]) -> None:
        left = self._disk(name if name != "fresh" else "base")
        visible = blocks.different(left, self._read_out(name), BLOCK)
        hidden = sorted(set(changed) - set(visible))
        right = hit["exposed"] == blocks.as_ranges(visible, BLOCK) and hit["shielded"] == blocks.as_ranges(hidden, BLOCK)
        self.stage.claim(right, f"{name}.qcow2 shows {len(visible)} of them and hides {len(hidden)}, just where impact says")

    def _prove_intact(self, hit: dict[str, str]) -> None:
        self.stage.run("e2fsck -fn ../seen/busy.raw", CLEAN)
        same = blocks.digest(self._seen("busy")) == self._digests["busy"]
        self.stage.claim(hit["verdict"] == "intact" and same, "busy.qcow2, called intact, is: clean, and every byte as before")

    def _prove_synchronised(self, hit: dict[str, str]) -> None:
        self.stage.run("e2fsck -fn ../seen/fresh.raw", CLEAN)
        same = blocks.digest(self._seen("fresh")) == self._digests["upgraded"]
        statement = "fresh.qcow2, called synchronised, is: clean, and every byte as in the upgraded base"
        self.stage.claim(hit["verdict"] == "synchronised" and same, statement)

    def _prove_torn(self, hit: dict[str, str]) -> None:
        report = self.stage.run("e2fsck -fn ../seen/quiet.raw", UNCORRECTED, at_most=9)
        torn = hit["verdict"] == "torn" and "still has errors" in report
        self.stage.claim(
            torn, f"quiet.qcow2, called torn, is: e2fsck needs {len(report.splitlines())} lines to say what is wrong"
        )
        before = FileSystem(self.stage, self._disk("quiet")).files(self.folder / "before")
        after = FileSystem(self.stage, self._seen("quiet")).files(self.folder / "after")
        lost = [path for path, content in before.items() if after.get(path) != content]
        whole = [path for path, content in self._upgraded.items() if after.get(path) == content]
        self.stage.claim(len(lost) > 0, f"{len(lost)} of the {len(before)} files that its guest left are gone or broken")
        statement = f"of the {len(self._upgraded)} new ones it can read {len(whole)}"
        self.stage.claim(len(whole) < len(self._upgraded), statement)

    def repair(self) -> None:
        """The base gets its sealed content back."""
        self.stage.chapter("7. Undone: repair")
        self.stage.say(
            "Nobody names a donor: cowherd looks through the herd, finds the backup, and takes only blocks that match the seal."
        )
        self.stage.run("cowherd repair base.qcow2")
        self.stage.run("cowherd verify --full")
        for name in OVERLAYS:
            self.stage.ask("e2fsck", "-fn", self._read_out(name))
            same = blocks.digest(self._seen(name)) == self._digests[name]
            self.stage.claim(same, f"{name}.qcow2: e2fsck finds it clean, and every byte is as its guest left it")

    def preserve(self) -> None:
        """The same change again, and this time it is wanted."""
        self.stage.chapter("8. Or kept: a new base under old overlays")
        self.stage.say("The same upgrade happens once more, and this time it shall stay, but only for overlays to come:")
        self._upgrade_base()
        self.stage.run("cowherd repair base.qcow2 --preserve")
        self.stage.run("cowherd verify --full")
        for name in OVERLAYS:
            self.stage.claim(self._content(name) == self._digests[name], f"{name}.qcow2: every byte is as its guest left it")
        kept = self._content("base") == self._digests["upgraded"]
        self.stage.claim(kept, "base.qcow2: every byte is as the upgrade left it")
        self.stage.run("cowherd tree")

    def _content(self, name: str) -> str:
        with cowherd.open(self.herd / f"{name}.qcow2") as image:
            return blocks.digest_of_content(image)

    def _read_out(self, name: str) -> Path:
        """Writes the disk that the guest of an overlay finds to a raw file."""
        self.stage.ask("cowherd-img", "convert", "-O", "raw", f"{name}.qcow2", self._seen(name))
        return self._seen(name)

    def _disk(self, name: str) -> Path:
        return self.folder / "disks" / f"{name}.raw"

    def _seen(self, name: str) -> Path:
        return self.folder / "seen" / f"{name}.raw"


def _amount(size: int) -> str:
    return "nothing" if not size else f"{size / (1 << 20):.1f} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"
