"""Documents of ours as YAML that people read: in our order, a setting a line."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any


def yaml_text(document: Mapping[str, Any]) -> str:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # its own annotation says None
    text = StringIO()
    yaml.dump(dict(document), text)
    return text.getvalue()
