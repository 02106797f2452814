"""The header: read back as written, kept whole, and refused where its numbers make no sense."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cowherd.errors import CowherdError, ImageFormatError, InvalidRequest, UnsupportedFeature
from cowherd.formats.qcow2 import layout
from cowherd.formats.qcow2.header import Extension, Header, feature_name_table, read_header, write_header
from cowherd.formats.qcow2.layout import Field, Structure
from cowherd.formats.reference import BackingReference
from cowherd.storage.hostfile import HostFile
from tests.images import MATRIX, Features, create_with_cowherd, create_with_qemu
from tests.qemu import Tool


def read(path: Path) -> Header:
    with HostFile.open(path, lock=None) as file:
        return read_header(file)


def read_bytes(path: Path, area: bytes) -> Header:
    path.write_bytes(area)
    return read(path)


def patched(path: Path, offset: int, data: bytes) -> Path:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return create_with_cowherd(tmp_path / "image.qcow2", Features(), 1 << 30)


@pytest.fixture
def v2_image(tmp_path: Path) -> Path:
    return create_with_cowherd(tmp_path / "image.qcow2", Features(version=2), 1 << 30)


# Names of backing files can't hold zero bytes, and an empty name is none.
names = st.binary(min_size=1, max_size=200).map(lambda name: name.replace(b"\0", b"_").decode("utf-8", "surrogateescape"))
kinds = st.integers(1, 2**32 - 1).filter(lambda kind: kind != layout.EXTENSION_BACKING_FORMAT)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    version, bits = draw(st.sampled_from([2, 3])), draw(st.integers(12, 21))
    place = st.integers(1, (1 << 56 - bits) - 1).map(lambda cluster: cluster << bits)
    features: dict[str, int] = {}
    if version == 3:
        extended = draw(st.booleans()) and bits >= 14
        zstd = draw(st.booleans())
        features = {
            "incompatible": draw(st.integers(0, 7)) | zstd << 3 | extended << 4,
            "compatible": draw(st.integers(0, 2**64 - 1)),
            "autoclear": draw(st.integers(0, 2**64 - 1)),
            "refcount_order": draw(st.integers(0, 6)),
            "compression_type": int(zstd),
            "header_length": draw(st.sampled_from([112, 120, 200])),
        }
    else:
        features = {"header_length": layout.V2_HEADER_LENGTH}
    extensions = draw(st.lists(st.builds(Extension, kinds, st.binary(max_size=60)), max_size=4))
    return Header(
        version=version,
        cluster_bits=bits,
        size=draw(st.integers(0, 1 << bits)),
        l1_size=draw(st.integers(1, layout.MAX_L1_BYTES // 8)),
        l1_table_offset=draw(place),
        refcount_table_offset=draw(place),
        refcount_table_clusters=draw(st.integers(1, layout.MAX_REFCOUNT_TABLE_BYTES >> bits)),
        nb_snapshots=draw(st.integers(0, layout.MAX_SNAPSHOTS)),
        snapshots_offset=draw(place),
        crypt_method=draw(st.integers(0, 2)),
        extensions=tuple(extensions),
        tail=draw(st.binary(min_size=features["header_length"] - 105, max_size=features["header_length"] - 105))
        if version == 3
        else b"",
        **features,
    ).with_backing(draw(st.none() | st.builds(BackingReference, names, st.sampled_from([None, "raw", "qcow2"]))))


@given(headers())
def test_a_header_comes_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, header: Header):
    path = tmp_path_factory.getbasetemp() / "header"
    assert read_bytes(path, header.pack()) == header


@given(st.binary(max_size=600), st.booleans())
def test_no_bytes_make_reading_fail_otherwise_than_by_an_error_that_says_why(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, magic: bool
):
    path = tmp_path_factory.getbasetemp() / "random"
    with contextlib.suppress(CowherdError):
        found = read_bytes(path, (layout.MAGIC + b"\0\0\0\3" if magic else b"") + data)
        assert found.cluster_bits in range(layout.MIN_CLUSTER_BITS, layout.MAX_CLUSTER_BITS + 1)


@given(st.integers(0, 15), st.integers(0, 2**64 - 1))
def test_no_number_in_a_header_makes_reading_fail_otherwise(tmp_path_factory: pytest.TempPathFactory, word: int, value: int):
    path = tmp_path_factory.getbasetemp() / "number"
    header = Header(3, 16, 1 << 30, 2, 1 << 17, 1 << 16, 1)
    area = bytearray(header.with_extension(99, b"x" * 40).with_backing(BackingReference("base", "raw")).pack())
    area[8 * word : 8 * word + 8] = value.to_bytes(8, "big")
    with contextlib.suppress(CowherdError):
        assert read_bytes(path, bytes(area)).l1_size * 8 <= layout.MAX_L1_BYTES


@pytest.mark.qemu
@pytest.mark.parametrize("features", MATRIX[::3], ids=str)
def test_headers_of_qemu_are_understood_and_written_back_whole(tmp_path: Path, features: Features):
    path = create_with_qemu(tmp_path / "image.qcow2", features, 1 << 30)
    before = path.read_bytes()
    header = read(path)
    assert (header.version, header.cluster_size, header.refcount_bits) == (
        features.version,
        features.cluster_size,
        features.refcount_bits,
    )
    assert (header.extended_l2, header.compression, header.lazy_refcounts) == (
        features.extended_l2,
        features.compression,
        features.lazy_refcounts,
    )
    with HostFile.open(path, writable=True) as file:
        write_header(file, header)
    assert path.read_bytes() == before


@pytest.mark.qemu
def test_qemu_reads_what_was_written(tmp_path: Path, qemu_img: Tool, image: Path):
    with HostFile.open(image, writable=True) as file:
        header = read_header(file).with_backing(BackingReference("größe.raw", "raw")).with_extension(0x12345678, b"abc")
        write_header(file, header)
    (tmp_path / "größe.raw").write_bytes(bytes(512))
    out = qemu_img("info", "--backing-chain", image)
    assert "backing file: größe.raw" in out
    assert "backing file format: raw" in out


def test_a_shorter_header_leaves_nothing_of_the_longer_one(image: Path):
    with HostFile.open(image, writable=True) as file:
        plain = read_header(file)
        write_header(file, plain.with_backing(BackingReference("n" * 1000, "raw")).with_extension(77, b"\xff" * 2000))
        write_header(file, plain)
        assert file.pread(0, 65536) == plain.pack().ljust(65536, b"\0")


@pytest.mark.parametrize("length", [1, 60, 250])
def test_a_header_that_is_cut_short_between_two_sectors_is_the_old_one_or_the_new_one(tmp_path: Path, monkeypatch, length: int):
    """As with an overlay of QEMU's: with the table of feature names, the name of its base goes on in the second sector."""
    named = Header(3, 16, 0, 0, 3 << 16, 1 << 16, 1, extensions=(feature_name_table(),))
    old = named.with_backing(BackingReference("o" * length, "raw"))
    new = old.with_extension(77, bytes(range(90))).with_backing(BackingReference("n" * length, "qcow2"))
    path, cut = tmp_path / "image", tmp_path / "cut"
    path.write_bytes(old.pack().ljust(4 << 16, b"\0"))
    states, pwrite = [], HostFile.pwrite

    def torn(file: HostFile, offset: int, data: bytes) -> None:
        before = path.read_bytes()
        for start in range(0, len(data), 512):
            for part in (slice(0, start), slice(start, len(data))):  # the first sectors or the last ones alone
                piece = data[part]
                at = offset + part.start
                states.append(before[:at] + piece + before[at + len(piece) :])
        pwrite(file, offset, data)

    monkeypatch.setattr(HostFile, "pwrite", torn)
    with HostFile.open(path, writable=True) as file:
        write_header(file, new)
        states.append(path.read_bytes())
    assert len(states) > 2
    for state in states:
        cut.write_bytes(state)
        with HostFile.open(cut) as file:
            found = read_header(file)
        assert found.backing in (old.backing, new.backing)
        assert found.extension(77) == (None if found.backing == old.backing else bytes(range(90)))


def test_an_extension_is_replaced_in_its_place():
    header = Header(3, 16, 0, 0, 0, 0, 1, extensions=(Extension(1, b"a"), Extension(2, b"b"), Extension(3, b"c")))
    changed = header.with_extension(2, b"new")
    assert changed.extensions == (Extension(1, b"a"), Extension(2, b"new"), Extension(3, b"c"))
    assert changed.with_extension(2, None).extensions == (Extension(1, b"a"), Extension(3, b"c"))
    assert header.with_extension(4, b"d").extensions[-1] == Extension(4, b"d")
    assert header.extension(9) is None


def test_a_backing_file_that_is_taken_away_leaves_no_format_behind():
    header = Header(3, 16, 0, 0, 0, 0, 1).with_backing(BackingReference("base", "raw"))
    assert header.backing == BackingReference("base", "raw")
    bare = header.with_backing(None)
    assert (bare.backing, bare.backing_format, bare.extensions) == (None, None, ())


def test_what_does_not_fit_in_the_first_cluster_is_refused():
    header = Header(3, 9, 0, 0, 0, 0, 1)
    with pytest.raises(InvalidRequest, match="Backing file name too long"):
        header.with_backing(BackingReference("n" * 500, None)).pack()
    with pytest.raises(InvalidRequest, match="Backing file name too long"):
        header._replace(cluster_bits=16).with_backing(BackingReference("n" * 1024, None)).pack()
    with pytest.raises(InvalidRequest, match="extensions do not fit"):
        header.with_extension(5, bytes(400)).pack()


REFUSED = {
    "magic": (0, b"QFI\xfa", "not in qcow2 format"),
    "cluster size too small": (20, struct.pack(">I", 8), "Unsupported cluster size"),
    "cluster size too large": (20, struct.pack(">I", 22), "Unsupported cluster size"),
    "cluster size absurd": (20, b"\xff\xff\xff\xff", "Unsupported cluster size"),
    "header too short": (100, struct.pack(">I", 96), "header too short"),
    "header longer than a cluster": (100, struct.pack(">I", 65544), "exceeds cluster size"),
    "header length odd": (100, struct.pack(">I", 109), "not a multiple of 8"),
    "L1 table too large": (36, b"\xff\xff\xff\xff", "Active L1 table too large"),
    "L1 table too small": (24, struct.pack(">Q", 1 << 50), "L1 table is too small"),
    "L1 table inside a cluster": (40, struct.pack(">Q", 66000), "Active L1 table offset invalid"),
    "L1 table beyond all files": (40, struct.pack(">Q", 1 << 60), "Active L1 table offset invalid"),
    "no refcount table": (56, bytes(4), "does not contain a reference count table"),
    "refcount table too large": (56, b"\xff\xff\xff\xff", "Reference count table too large"),
    "refcount table over the header": (48, bytes(8), "Reference count table offset invalid"),
    "too many snapshots": (60, struct.pack(">I", 65537), "Snapshot table too large"),
    "snapshot table nowhere": (60, struct.pack(">I", 1), "Snapshot table offset invalid"),
    "refcount width": (96, struct.pack(">I", 7), "Reference count entry width too large"),
    "compression type without its bit": (104, b"\1", "contradict each other"),
    "backing name in the header": (8, struct.pack(">QI", 50, 5), "Invalid backing file offset"),
    "backing name past the cluster": (8, struct.pack(">QI", 65530, 50), "Backing file name too long"),
    "backing name too long": (8, struct.pack(">QI", 1024, 1024), "Backing file name too long"),
    "backing name with a zero byte": (8, struct.pack(">QI", 30000, 5), "holds a zero byte"),
    "extension past the cluster": (112, struct.pack(">II", 5, 0xFFFFFFF0), "Header extension too large"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_number_that_makes_no_sense_is_refused(image: Path, name: str):
    offset, data, problem = REFUSED[name]
    with pytest.raises(ImageFormatError, match=problem):
        read(patched(image, offset, data))


@pytest.mark.parametrize(
    ("offset", "data", "feature"),
    [
        (4, struct.pack(">I", 4), "version 4"),
        (72, struct.pack(">Q", 1 << 33), "unknown incompatible bit 33"),
        (32, struct.pack(">I", 3), "encryption method 3"),
    ],
)
def test_a_feature_that_is_not_known_is_named(image: Path, offset: int, data: bytes, feature: str):
    with pytest.raises(UnsupportedFeature, match=feature):
        read(patched(image, offset, data))


def test_an_unknown_feature_is_called_by_the_name_that_the_image_gives_it(tmp_path: Path):
    table = layout.FEATURE_NAME_ENTRY.pack(0, 40, b"time \x1b[31mtravel")
    header = Header(3, 16, 0, 0, 0, 1 << 16, 1, incompatible=1 << 40).with_extension(layout.EXTENSION_FEATURE_NAMES, table)
    with pytest.raises(UnsupportedFeature) as caught:
        read_bytes(tmp_path / "image", header.pack())
    assert "time" in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_subclusters_need_large_clusters(tmp_path: Path):
    header = Header(3, 13, 0, 0, 0, 1 << 13, 1, incompatible=layout.INCOMPATIBLE_EXTENDED_L2)
    with pytest.raises(ImageFormatError, match="too small for extended L2"):
        read_bytes(tmp_path / "image", header.pack())


def test_a_version_2_header_has_no_extensions_unless_it_needs_them(v2_image: Path):
    header = read(v2_image)
    assert header.header_length == layout.V2_HEADER_LENGTH
    assert len(header.pack()) == layout.V2_HEADER_LENGTH
    assert len(header.with_extension(5, b"12345678").pack()) == layout.V2_HEADER_LENGTH + 24


def test_an_empty_file_is_no_image(tmp_path: Path):
    with pytest.raises(ImageFormatError, match="not in qcow2 format"):
        read_bytes(tmp_path / "image", b"")


def test_the_feature_name_table_names_what_is_known():
    names = [row[2].rstrip(b"\0").decode() for row in layout.FEATURE_NAME_ENTRY.iter_unpack(feature_name_table().data)]
    assert names == [name for _, _, name in layout.FEATURE_NAMES]
    known = [bit for kind, bit, _ in layout.FEATURE_NAMES if kind == 0]
    assert sum(1 << bit for bit in known) == layout.INCOMPATIBLE_KNOWN


def test_a_structure_is_declared_without_gaps():
    with pytest.raises(AssertionError, match="declared at 5"):
        Structure(Field("a", 0, "I", ""), Field("b", 5, "I", ""))
    pair = Structure(Field("a", 0, "I", ""), Field("b", 4, "Q", ""))
    assert pair.size == 12
    assert pair.unpack(pair.pack({"a": 1, "b": 2, "more": 3})) == {"a": 1, "b": 2}


def insert_extensions(path: Path, *found: Extension, last: bool) -> None:
    """Puts extensions before those that an image has, or behind them."""
    header = read(path)
    extensions = (*header.extensions, *found) if last else (*found, *header.extensions)
    with path.open("r+b") as file:
        file.write(header._replace(extensions=extensions).pack().ljust(4096, b"\0"))


@pytest.mark.parametrize("last", [True, False], ids=["behind", "before"])
class TestOfTwoExtensionsOfOneKindTheLastCounts:
    """As QEMU has it, which is asked each time."""

    def test_backing_formats(self, tmp_path: Path, qemu_img: Tool, last: bool):
        qemu_img("create", "-q", "-f", "raw", tmp_path / "base", "1M")
        image = tmp_path / "image"
        qemu_img("create", "-q", "-f", "qcow2", "-b", tmp_path / "base", "-F", "raw", image)
        insert_extensions(image, Extension(layout.EXTENSION_BACKING_FORMAT, b"qcow2"), last=last)
        told = json.loads(qemu_img("info", "--output=json", image))["backing-filename-format"]
        assert read(image).backing_format == told == ("qcow2" if last else "raw")

    def test_data_files(self, tmp_path: Path, qemu_img: Tool, last: bool):
        image = tmp_path / "image"
        qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path / 'one'}", image, "1M")
        qemu_img("create", "-q", "-f", "raw", tmp_path / "two", "1M")
        insert_extensions(image, Extension(layout.EXTENSION_DATA_FILE, bytes(tmp_path / "two")), last=last)
        told = json.loads(qemu_img("info", "--output=json", image))["format-specific"]["data"]["data-file"]
        assert (
            (read(image).extension(layout.EXTENSION_DATA_FILE) or b"").decode()
            == told
            == str(tmp_path / ("two" if last else "one"))
        )

    def test_names_of_features(self, tmp_path: Path, qemu_img: Tool, last: bool):
        image = create_with_qemu(tmp_path / "image", Features(), 1 << 20)
        tables = [
            Extension(layout.EXTENSION_FEATURE_NAMES, layout.FEATURE_NAME_ENTRY.pack(0, 9, name)) for name in (b"one", b"two")
        ]
        insert_extensions(image, *(tables if last else reversed(tables)), last=True)
        patched(image, 72, (1 << 9).to_bytes(8, "big"))
        wanted = "two" if last else "one"
        assert f"feature(s): {wanted}" in qemu_img.run("info", image).stderr
        with pytest.raises(UnsupportedFeature, match=wanted):
            read(image)

    def test_bitmaps(self, tmp_path: Path, qemu_img: Tool, last: bool):
        image = create_with_qemu(tmp_path / "image", Features(), 1 << 20)
        qemu_img("bitmap", "--add", "-f", "qcow2", image, "changes")
        nowhere = Extension(layout.EXTENSION_BITMAPS, struct.pack(">IIQQ", 1, 0, 32, 1 << 40))
        insert_extensions(image, nowhere, last=last)
        told = qemu_img.run("info", "--output=json", image)
        assert ("changes" in told.stdout) is not last
        assert (read(image).extension(layout.EXTENSION_BITMAPS) == nowhere.data) is last

    def test_encryption_headers(self, tmp_path: Path, qemu_img: Tool, last: bool):
        image, secret = tmp_path / "image", ("--object", "secret,id=key,data=secret")
        luks = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10"
        qemu_img("create", "-q", *secret, "-f", "qcow2", "-o", luks, image, "1M")
        nowhere = Extension(layout.EXTENSION_ENCRYPTION, struct.pack(">QQ", 0, 4096))
        insert_extensions(image, nowhere, last=last)
        options = f"driver=qcow2,file.filename={image},encrypt.key-secret=key"
        told = qemu_img.run("map", *secret, "--image-opts", options)
        if last:  # the first one is read as well, so that only this order tells
            assert told.returncode != 0
        assert (read(image).extension(layout.EXTENSION_ENCRYPTION) == nowhere.data) is last


def test_qemu_turns_the_order_of_extensions_that_it_does_not_know_around(tmp_path: Path, qemu_img: Tool):
    """So that of two bindings neither is the one that counts; see `cowherd.herd.records.binding.binding_in`."""
    image = create_with_qemu(tmp_path / "image", Features(), 1 << 20)
    insert_extensions(image, Extension(0x12345678, b"one"), Extension(0x12345678, b"two"), last=True)
    qemu_img("amend", "-f", "qcow2", "-o", "lazy_refcounts=on", image)
    assert [one.data for one in read(image).extensions if one.type == 0x12345678] == [b"two", b"one"]
