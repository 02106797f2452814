"""What can be set, and how wrong settings are told."""

from __future__ import annotations

import pytest

from cowherd.errors import HostFileError, InvalidRequest
from cowherd.service.web.settings import read_settings


def settings(words=(), path=None, **options):
    return read_settings(path, words, {"data": "/data", **options})


def test_options_win_over_words_and_words_over_the_file(tmp_path):
    file = tmp_path / "service.toml"
    file.write_text(
        'workers = 2\napi_limit_max = 7\nlimit-param-default = 5\nstores = ["a=/a"]\n'
        '[image]\nsize_cap = 100\n[import]\nconvert = "raw"\n'
    )
    read = settings(["api_limit_max=8", "workers=3"], str(file), workers="4")
    assert (read.workers, read.api_limit_max, read.limit_param_default, read.image_size_cap) == (4, 8, 5, 100)
    assert (read.store_directories, read.import_convert) == ({"a": "/a"}, "raw")


def test_what_is_not_set_lies_in_the_directory_of_the_data():
    read = settings()
    assert read.store_directories == {"default": "/data/store"}
    assert read.socket_path == "/data/service.sock"
    assert read.database_url == "sqlite:////data/records.sqlite"


def test_sizes_truths_and_lists_are_read_from_text():
    read = settings(["image_size_cap=20G", "require_format_match=false", "import_methods=web-download, copy-image"])
    assert (read.image_size_cap, read.require_format_match) == (20 << 30, False)
    assert read.import_methods == ("web-download", "copy-image")


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (["api_limit_maxx=1"], {}, "the nearest one is 'api_limit_max'"),
        (["workers"], {}, "sets nothing"),
        (["workers=many"], {}, "workers is a number"),
        (["workers=0"], {}, "less than 1"),
        (["md5=perhaps"], {}, "md5 can't be"),
        (["auth=all"], {}, "none, tokens, keystone"),
        (["hash_algorithm=md4"], {}, "sha256"),
        (["import_convert=vmdk"], {}, "raw, qcow2"),
        ([], {"data": ""}, "--data"),
        ([], {"listen": "127.0.0.1:1", "socket": "s"}, "not on both"),
        ([], {"listen": "0.0.0.0:9292"}, "everybody"),
        ([], {"listen": "9292"}, "no address"),
        ([], {"listen": "localhost:99999"}, "no address"),
        ([], {"stores": ["fast"]}, "no store"),
        ([], {"auth": "keystone"}, "--keystone"),
    ],
)
def test_what_makes_no_sense_is_told(words, options, said):
    with pytest.raises(InvalidRequest, match=said):
        settings(words, **options)


@pytest.mark.parametrize("text", ["workers = ", "workers = 1.5", "stores = [1]", "auth = 1"])
def test_a_file_that_makes_no_sense_is_told(tmp_path, text):
    (tmp_path / "file").write_text(text)
    with pytest.raises(InvalidRequest):
        settings(path=str(tmp_path / "file"))


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(HostFileError):
        settings(path=str(tmp_path / "file"))


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:9292", "localhost:9292", "127.9.9.9:1"])
def test_the_loopback_network_needs_no_authentication(listen):
    assert settings(listen=listen).listen == listen
