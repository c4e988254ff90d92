"""The C core, compiled by cffi's out-of-line API mode. All else about the package is in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=["src/kvsync/_core/build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
