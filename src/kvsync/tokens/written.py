"""
How an operator writes a tokenizer down: as a table of a configuration file, or as annotations of a pod.

    [tokenizers."org/model"]             kvsync.io/tokenizer: "org/model"
    kind = "hf"                          kvsync.io/tokenizer-kind: "hf"
    base = "/models/org-model"           kvsync.io/tokenizer-revision: "main"

Whoever may create pods writes annotations, and is trusted with less: not with files of this machine that hold secrets
or programs, and not with addresses that we would send prompts to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from kvsync.errors import ConfigError
from kvsync.tokens.model import ModelSpec

ANNOTATION = "tokenizer"
ANNOTATED = ("base", "kind", "revision", "content_format", "pattern", "timeout_seconds", "trust_remote_code")
"""What an annotation may say; the rest is the configuration file's."""


def spec_of_table(table: object, model: str) -> ModelSpec:
    """
    Read the table of a configuration file; `base` is the model's own name where the table has none.
    """
    where = f"tokenizers.{model!r}"
    if isinstance(table, ModelSpec):
        return table
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} is {table!r}; give a table with kind and base")
    return _spec({"base": model, **table}, where)


def spec_of_annotations(texts: Iterable[tuple[str, str]], model: str, where: str) -> ModelSpec | None:
    """
    Read a pod's annotations, their names without `kvsync.io/`; None where none is about a tokenizer.

    `tokenizer` is the base; `tokenizer-kind` and the like are the other fields, with `-` for `_`. `ConfigError` names
    the pod, which `where` is, and the annotation.
    """
    fields: dict[str, object] = {}
    for name, value in texts:
        if name != ANNOTATION and not name.startswith(f"{ANNOTATION}-"):
            continue
        field = name.removeprefix(ANNOTATION).removeprefix("-").replace("-", "_") or "base"
        if field not in ANNOTATED:
            known = ", ".join(f"{ANNOTATION}-{one.replace('_', '-')}" for one in ANNOTATED)
            raise ConfigError(f"{where}: annotation kvsync.io/{name} is not taken from a pod; known are {known}")
        fields[field] = value
    return _spec({"base": model, **fields}, where) if fields else None


def _spec(fields: Mapping[str, object], where: str) -> ModelSpec:
    try:
        spec = ModelSpec.model_validate(dict(fields))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            raise ConfigError(
                f"{where}: {name!r} is not known; a tokenizer has {', '.join(ModelSpec.model_fields)}"
            ) from error
        raise ConfigError(f"{where}: {name} is {problem['input']!r}: {problem['msg']}") from error
    for endpoint in spec.endpoints:
        if not endpoint.startswith(("http://", "https://")):
            raise ConfigError(f"{where}: endpoint {endpoint!r} is no address; give http://HOST:PORT")
    return spec
