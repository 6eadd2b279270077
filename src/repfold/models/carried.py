"""What a file for another runtime says of its network: "repfold.classes" and "repfold.preprocessing", JSON texts.

ONNX holds them in ``metadata_props``, a .pt2 program in its extra files, OpenVINO's IR in ``rt_info``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from repfold.errors import RepFoldError
from repfold.models.description import Description

_FIELDS = {"classes": "repfold.classes", "preprocessing": "repfold.preprocessing"}
KEYS = tuple(_FIELDS.values())


def carried(description: Description | None) -> dict[str, str]:
    """Return the texts: of classes a list of names, of preprocessing an object of the fields of ``Preprocessing``."""
    content = {} if description is None else description.to_dict()
    known = {key: content[field] for field, key in _FIELDS.items() if content.get(field) is not None}
    return {key: json.dumps(value, ensure_ascii=False) for key, value in known.items()}


def described(texts: Mapping[str, str]) -> Description:
    """Return what ``carried`` wrote; what is absent stays unknown, and the form is taken for one to be folded.

    Raises: RepFoldError for texts that are not JSON, or make no sense.
    """
    content: dict[str, object] = {"form": "train"}
    for field, key in _FIELDS.items():
        try:
            content[field] = json.loads(texts.get(key, "null"))
        except (ValueError, RecursionError) as error:
            raise RepFoldError(f"What the file says of its {field} is not JSON: {error}.") from error
    return Description.from_dict(content)
