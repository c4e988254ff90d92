"""
Which tokenizer a model has, as a value: what an operator writes down, and what a warm backend is found by.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

Kind: TypeAlias = Literal["hf", "tiktoken", "mistral", "remote", "dummy"]


def _absolute(path: Path) -> Path:
    # Two spellings of one folder are one tokenizer; links stay as they are, for what they point to may change.
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100  resolve() would follow links


_Name = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
_Absolute = Annotated[Path, AfterValidator(_absolute)]


class ModelSpec(BaseModel):
    """
    A model as its tokenizer sees it; frozen, hashable, unknown fields refused.

    `base` is a folder, a file, or a name on the hub; for `remote`, the name the engines serve the model by.
    `adapter` is the folder of an adapter whose own tokenizer files, if it has any, count before the base's.
    `revision` is the hub's. `trust_remote_code` is carried for those who share specs with engines and is no part of the
    identity: kvsync never runs code from a model's folder.

    The rest is each of use to some kinds only:
    `chat_template` (hf, tiktoken) a Jinja file in place of the model's own;
    `content_format` (hf, tiktoken) what an engine was told by `--chat-template-content-format`;
    `pattern` (tiktoken) the expression that cuts text into pieces, or the name of a known one;
    `endpoints` (remote) where engines answer `/tokenize`;
    `timeout_seconds` (remote) how long they are waited for, all tries together;
    `token_file` (remote) the file with the bearer token they ask for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: _Name
    kind: Kind = "hf"
    adapter: _Absolute | None = None
    revision: _Name | None = None
    trust_remote_code: bool = False
    chat_template: _Absolute | None = None
    content_format: Literal["string", "openai"] | None = None
    pattern: _Name | None = None
    endpoints: tuple[_Name, ...] = ()
    timeout_seconds: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 2.0
    token_file: _Absolute | None = None

    @property
    def identity(self) -> tuple[object, ...]:
        """All that can change what comes out, as a hashable value."""
        return tuple(getattr(self, name) for name in type(self).model_fields if name != "trust_remote_code")
