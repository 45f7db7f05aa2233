"""YAML in and out: what people write as plain data, and documents of ours as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.secrets import redact


def plain_yaml(text: str, place: str) -> Any:
    """Plain data. Raises `InputError`, which says that `place` is what cannot be read."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except RecursionError:
        raise InputError("is nested too deeply", place) from None
    except (YAMLError, AttributeError, LookupError, TypeError, ValueError) as error:  # the parser has slips of its own
        raise InputError(f"is not YAML: {' '.join(redact(error).split())}", place) from None


def yaml_text(document: Mapping[str, Any]) -> str:
    """In the document's own order, a setting a line."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.width = 1 << 20  # where a text is folded, a backslash at the fold comes back as another
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # its own annotation says None
    text = StringIO()
    yaml.dump(dict(document), text)
    return text.getvalue()
