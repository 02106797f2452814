"""The codecs: what they write, the standard libraries (and so QEMU) read, and damaged data is an error and no more."""

from __future__ import annotations

import contextlib
import random
import threading
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cowherd.formats.qcow2.compression import Codec, CodecError, codec

SIZE = 65536
CONTENTS = {
    "zeros": bytes(SIZE),
    "text": (b"The quick brown fox jumps over the lazy dog. " * 1500)[:SIZE],
    "far repetitions": random.Random(1).randbytes(5000) * 13 + bytes(536),
    "random": random.Random(2).randbytes(SIZE),
}


def inflate(data: bytes) -> bytes:
    """Decompresses with the window of 4 KiB that QEMU uses."""
    return zlib.decompressobj(-12).decompress(data)


def unzstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


@pytest.fixture(params=["zlib", "zstd"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("content", CONTENTS)
def test_a_cluster_comes_back(name: str, content: str):
    tool = codec(name)
    assert tool.decompress(tool.compress(CONTENTS[content]), SIZE) == CONTENTS[content]
    assert tool.decompress(memoryview(tool.compress(memoryview(CONTENTS[content]))), SIZE) == CONTENTS[content]


@pytest.mark.parametrize("content", CONTENTS)
def test_the_standard_libraries_read_it(name: str, content: str):
    reference: Callable[[bytes], bytes] = inflate if name == "zlib" else unzstd
    assert reference(codec(name).compress(CONTENTS[content])) == CONTENTS[content]


def test_repetitive_content_shrinks(name: str):
    assert len(codec(name).compress(CONTENTS["text"])) < SIZE // 20


@pytest.mark.parametrize("rest", [bytes(511), b"\xff" * 300, random.Random(3).randbytes(512)])
def test_what_follows_in_the_last_sector_is_ignored(name: str, rest: bytes):
    tool = codec(name)
    assert tool.decompress(tool.compress(CONTENTS["text"]) + rest, SIZE) == CONTENTS["text"]


def test_data_of_the_next_cluster_is_ignored(name: str):
    tool = codec(name)
    stored = tool.compress(CONTENTS["text"]) + tool.compress(CONTENTS["random"])
    assert tool.decompress(stored, SIZE) == CONTENTS["text"]


def test_no_more_than_a_cluster_is_produced(name: str):
    tool = codec(name)
    bomb = tool.compress(bytes(64 << 20))
    assert tool.decompress(bomb, SIZE) == bytes(SIZE)


@pytest.mark.parametrize("keep", [0, 1, 10, 100])
def test_data_that_ends_early_is_an_error(name: str, keep: int):
    tool = codec(name)
    with pytest.raises(CodecError):
        tool.decompress(tool.compress(CONTENTS["random"])[:keep], SIZE)


def test_a_stream_shorter_than_a_cluster_is_an_error(name: str):
    tool = codec(name)
    with pytest.raises(CodecError, match=f"of {SIZE} bytes"):
        tool.decompress(tool.compress(CONTENTS["text"][:1000]), SIZE)


@given(st.binary(max_size=300), st.sampled_from(["zlib", "zstd"]))
def test_arbitrary_bytes_give_a_cluster_or_an_error(data: bytes, name: str):
    with contextlib.suppress(CodecError):
        assert len(codec(name).decompress(data, 512)) == 512


@given(st.binary(min_size=1, max_size=2000), st.sampled_from(["zlib", "zstd"]))
def test_any_content_comes_back(data: bytes, name: str):
    tool = codec(name)
    assert tool.decompress(tool.compress(data) + b"\0", len(data)) == data


def test_one_codec_serves_several_threads(name: str):
    tool: Codec = codec(name)
    clusters = [random.Random(seed).randbytes(500) * 20 for seed in range(8)]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            if tool.decompress(tool.compress(clusters[number]), len(clusters[number])) != clusters[number]:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("with_size", [True, False])
def test_a_cluster_may_be_spread_over_several_frames(with_size: bool):
    text = CONTENTS["text"]
    frames = [zstandard.ZstdCompressor(write_content_size=with_size).compress(part) for part in (text[:1000], text[1000:])]
    assert codec("zstd").decompress(b"".join(frames), SIZE) == text


def test_a_frame_that_claims_more_than_there_is_memory_for_takes_none():
    """RFC 8878: magic, a content size of 8 bytes, a window descriptor, the size, and one raw block that is not the last."""
    content = CONTENTS["random"]
    head = b"\x28\xb5\x2f\xfd" + b"\xc0" + b"\x58" + (1 << 61).to_bytes(8, "little")
    frame = head + (SIZE << 3).to_bytes(3, "little") + content
    assert zstandard.frame_content_size(frame) == 1 << 61
    assert codec("zstd").decompress(frame, SIZE) == content
