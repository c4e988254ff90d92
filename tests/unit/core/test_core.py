"""The door to the C core: what it declares is there, what it names is named, a status becomes its exception."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kvsync
from kvsync._core import check, ffi, lib, text, version
from kvsync.errors import CapacityError, KvsyncError

ROOT = Path(__file__).parents[3]
HEADER = ROOT / "csrc" / "include" / "kvsync.h"
CDEF = ROOT / "src" / "kvsync" / "_core" / "kvsync.cdef.h"
OPAQUE = "kvs_index"

STATUSES = (
    (lib.KVS_ERR_ARGUMENT, "KVS_ERR_ARGUMENT", ValueError),
    (lib.KVS_ERR_MEMORY, "KVS_ERR_MEMORY", MemoryError),
    (lib.KVS_ERR_ENGINE, "KVS_ERR_ENGINE", KvsyncError),
    (lib.KVS_ERR_CAPACITY, "KVS_ERR_CAPACITY", CapacityError),
)


def without_comments(path: Path) -> str:
    """A C file without what is said in comments."""
    return re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def structs_of(source: str) -> dict[str, list[str]]:
    """Struct name -> its fields as declared, one space between words."""
    return {
        name: [" ".join(line.split()) for line in body.split(";") if line.strip()]
        for body, name in re.findall(r"typedef struct \w+ \{(.*?)\}\s*(\w+);", source, flags=re.DOTALL)
    }


def functions_of(source: str) -> dict[str, str]:
    """Function name -> its whole declaration, one space between words."""
    return {
        name: " ".join((result + name + arguments).split())
        for result, name, arguments in re.findall(
            r"^((?:const )?\w+ \*?)(kvs_\w+)(\([^)]*\));", source, flags=re.MULTILINE
        )
    }


def test_the_core_is_of_this_version() -> None:
    """The compiled core and the package were made from one source."""
    assert version() == kvsync.__version__


STRUCTS = sorted(structs_of(without_comments(CDEF)))


@pytest.mark.parametrize("name", STRUCTS)
def test_every_field_is_where_the_compiler_put_it(name: str) -> None:
    """Touching a struct's fields once makes cffi compare its idea of them with the compiler's."""
    value = ffi.new(f"{name} *")
    for field, _ in ffi.typeof(name).fields:
        getattr(value, field)
    assert ffi.sizeof(name) > 0


def test_the_structs_are_those_of_the_header() -> None:
    """The cdef repeats each struct of the header, field by field; only an array's length is left to the compiler."""
    header, cdef = structs_of(without_comments(HEADER)), structs_of(without_comments(CDEF))
    lengths = {"kvs_lag": "KVS_LAG_COUNTS", "kvs_engine_status": "KVS_COUNTERS_COUNT"}
    cdef = {
        name: [field.replace("[...]", f"[{lengths.get(name)}]") for field in fields] for name, fields in cdef.items()
    }
    assert cdef == header


def test_the_functions_are_those_of_the_header() -> None:
    """The cdef declares each function of the public header alike, and each can be called."""
    header, cdef = functions_of(without_comments(HEADER)), functions_of(without_comments(CDEF))
    assert cdef == header
    assert len(header) > 20
    assert all(callable(getattr(lib, name)) for name in header)


def test_every_status_has_a_name_and_a_sentence() -> None:
    """Names come from C, so that they are typed once."""
    assert text(lib.kvs_status_name(lib.KVS_OK)) == "KVS_OK"
    for status, name, _ in STATUSES:
        assert text(lib.kvs_status_name(status)) == name
        assert " " in text(lib.kvs_status_text(status))
    sentences = {text(lib.kvs_status_text(status)) for status, _, _ in STATUSES}
    assert len(sentences) == len(STATUSES)


def test_every_reason_has_a_text() -> None:
    """Reasons are told apart, and one that does not exist is said to be unknown."""
    reasons = [text(lib.kvs_reason_text(reason)) for reason in range(lib.KVS_REASON_NONE, lib.KVS_REASON_LOADED + 1)]
    assert len(set(reasons)) == len(reasons) == 11
    assert reasons[0] == "none"
    assert text(lib.kvs_reason_text(lib.KVS_REASON_LOADED + 1)) == "unknown reason"


def test_every_counter_has_a_name() -> None:
    """Counters are told apart, and the list ends where it says."""
    names = [text(lib.kvs_counter_name(number)) for number in range(lib.KVS_COUNTERS_COUNT)]
    assert len(set(names)) == len(names)
    assert {"frames", "stored", "skipped_truncated", "evicted"} <= set(names)
    assert lib.kvs_counter_name(lib.KVS_COUNTERS_COUNT) == ffi.NULL
    assert len(ffi.new("kvs_engine_status *").counters) == lib.KVS_COUNTERS_COUNT


@pytest.mark.parametrize(("status", "name", "error"), STATUSES)
def test_a_status_becomes_its_exception(status: int, name: str, error: type[Exception]) -> None:
    """`check` raises what a caller of Python expects, with the sentence of C."""
    with pytest.raises(error, match=text(lib.kvs_status_text(status))) as caught:
        check(status)
    assert type(caught.value) is error
    assert error is not KvsyncError or name in str(caught.value)


def test_no_status_no_exception() -> None:
    """KVS_OK passes, and a status from the future does not."""
    check(lib.KVS_OK)
    with pytest.raises(KvsyncError, match="unknown status"):
        check(99)


def test_the_handle_is_opaque() -> None:
    """Python cannot look into an index, nor make one by hand."""
    assert OPAQUE not in STRUCTS
    with pytest.raises((TypeError, ffi.error)):
        ffi.new(f"{OPAQUE} *")


def test_limits_come_from_the_compiler() -> None:
    """Limits that Python checks itself are the header's."""
    header = without_comments(HEADER)
    for name in ("KVS_HASH_BYTES_MAX", "KVS_TEXT_BYTES_MAX", "KVS_ENGINES_MAX"):
        assert getattr(lib, name) == int(re.findall(rf"#define {name} (\d+)", header)[0])
