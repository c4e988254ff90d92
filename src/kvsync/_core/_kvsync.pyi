"""What setuptools and cffi make of csrc."""

from typing import Any

ffi: Any
lib: Any
