"""How fast the image service takes bytes in and verifies them: hashed, inspected and stored, without HTTP.

python image_bytes.py DIRECTORY [MIB] [REPEATS]    prints the median MB a second and the processor's seconds of each job

Uploads are of random bytes, but for one of a sparse disk. DIRECTORY should lie in memory, so that no disk is measured; the store
is made in it, and removed afterwards.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from cowherd.service.intake.arriving import Intake
from cowherd.service.intake.hashing import BLOCK_BYTES
from cowherd.service.intake.upload import Upload
from cowherd.service.records.database import open_database
from cowherd.service.records.image import Image
from cowherd.service.records.images import create_image
from cowherd.service.records.migration import migrate
from cowherd.stores.directory import DirectoryStore

MIB, REPEATS, AT_ONCE = 1024, 5, 4
SPARSE = 34
"""One block of so many holds data in a sparse disk: 300 MiB of 10 GiB."""
_RANDOM = [os.urandom(BLOCK_BYTES) for _ in range(64)]


def main() -> None:
    """Does what the command line asks for."""
    directory = Path(sys.argv[1]) / f"image-bytes-{os.getpid()}"
    mib = int(sys.argv[2]) if len(sys.argv) > 2 else MIB
    repeats = int(sys.argv[3]) if len(sys.argv) > 3 else REPEATS
    directory.mkdir()
    try:
        _measure_all(_intake_in(directory), mib, repeats)
    finally:
        shutil.rmtree(directory)


def _intake_in(directory: Path) -> Intake:
    database = open_database(f"sqlite:///{directory / 'records.db'}")
    migrate(database)
    store = DirectoryStore("main", str(directory / "store"))
    store.prepare()
    return Intake(database, store)


def _measure_all(intake: Intake, mib: int, repeats: int) -> None:
    light = replace(intake, hash_algorithm="sha256", md5=False)
    _measure("md5, sha512, BLAKE3", mib, repeats, lambda: _remove(intake, _upload(intake, _random(mib))))
    _measure("sha256, BLAKE3", mib, repeats, lambda: _remove(light, _upload(light, _random(mib))))
    _measure(f"{AT_ONCE} at once", mib, repeats, lambda: _upload_at_once(intake, mib // AT_ONCE))
    image = _upload(light, [_RANDOM[0] if number % SPARSE == 0 else bytes(BLOCK_BYTES) for number in range(mib)])
    stored = os.stat(light.store.path(image.blob or "")).st_blocks * 512
    print(f"sparse: {stored / BLOCK_BYTES / -(-mib // SPARSE):.3f} of the bytes that are no zeros are stored")
    _remove(light, image)
    image = _upload(light, _random(mib))
    _measure("verify", mib, repeats, lambda: light.store.verify(image.blob or ""))
    _remove(light, image)


def _random(mib: int) -> Iterable[bytes]:
    """Returns blocks of random bytes. The first differs each time, so that no two uploads are of the same bytes."""
    return (os.urandom(BLOCK_BYTES) if number == 0 else _RANDOM[number % len(_RANDOM)] for number in range(mib))


def _upload(intake: Intake, blocks: Iterable[bytes]) -> Image:
    image = Image(id=str(uuid.uuid4()), disk_format="raw", container_format="bare")
    with intake.database.write() as connection:
        create_image(connection, image)
    upload = Upload.begin(intake, image)
    for block in blocks:
        upload.feed(block)
    return upload.finish()


def _upload_at_once(intake: Intake, mib: int) -> None:
    threads = [threading.Thread(target=lambda: _remove(intake, _upload(intake, _random(mib)))) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _remove(intake: Intake, image: Image) -> None:
    intake.store.remove(image.blob or "")


def _measure(what: str, mib: int, repeats: int, job: Callable[[], object]) -> None:
    taken = [_timed(job) for _ in range(repeats)]
    rate = mib * BLOCK_BYTES / 1e6 / statistics.median(seconds for seconds, _ in taken)
    busy = statistics.median(processor for _, processor in taken)
    print(f"{what}: {rate:.0f} MB/s, {busy:.2f} s of the processor")


def _timed(job: Callable[[], object]) -> tuple[float, float]:
    began, processor = time.monotonic(), time.process_time()
    job()
    return time.monotonic() - began, time.process_time() - processor


if __name__ == "__main__":
    main()
