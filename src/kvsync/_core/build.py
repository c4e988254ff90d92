"""
How the C core becomes `kvsync._core._kvsync`; run by setuptools, never imported by the package.

The cdef is the public header as cffi can read it (`kvsync.cdef.h`); constants marked `...` there are
taken from the real header by the compiler, so nothing is typed twice.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
ROOT = Path("csrc")  # setuptools runs in the root of the project, and wants relative paths

LINK_TIME = ["-flto=auto"]


def link_time() -> list[str]:
    """
    The options for optimizing over all files of the core at once, if this compiler and its linker have that.

    A tenth of a store and of a removal is calls between files. clang on Linux needs lld or a plugin for it.
    """
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "probe.c"), Path(folder, "probe.so")
        source.write_text("int probe(void); int probe(void) { return 0; }\n", encoding="utf-8")
        command = [*compiler, *LINK_TIME, "-shared", "-fPIC", "-o", str(made), str(source)]
        try:
            return LINK_TIME if subprocess.run(command, check=False, capture_output=True).returncode == 0 else []
        except OSError:  # setuptools will say better what is missing
            return []


whole = link_time()
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
    extra_compile_args=[
        "-std=gnu11",
        "-O3",
        "-UNDEBUG",
        "-fvisibility=hidden",
        "-Werror=incompatible-pointer-types",
        *whole,
    ],
    extra_link_args=["-pthread", "-ldl", *whole],  # dlopen had a library of its own before glibc 2.34
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
