"""
How the C core becomes `kvsync._core._kvsync`; run by setuptools, never imported by the package.

The cdef is the public header as cffi can read it (`kvsync.cdef.h`); constants marked `...` there are
taken from the real header by the compiler, so nothing is typed twice.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
ROOT = Path("csrc")  # setuptools runs in the root of the project, and wants relative paths

ffibuilder = FFI()
ffibuilder.cdef((HERE / "kvsync.cdef.h").read_text(encoding="utf-8"))
ffibuilder.set_source(
    "kvsync._core._kvsync",
    '#include "kvsync.h"',
    sources=sorted(str(path) for path in (ROOT / "src").glob("*.c")),
    include_dirs=[str(ROOT / "include")],
    depends=sorted(str(path) for path in ROOT.glob("*/*.h")),
    # A wrong pointer width is only a warning to C; here it would corrupt memory. Python compiles with NDEBUG, but
    # a broken invariant of ours must stop us.
    extra_compile_args=["-std=gnu11", "-O3", "-UNDEBUG", "-fvisibility=hidden", "-Werror=incompatible-pointer-types"],
    extra_link_args=["-pthread"],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
