"""The JSON Schema of policy files, for editors: made from the models, so that it says what `load` accepts. Pure.

`make schema` writes it to policies/schema.json; a test holds that file current. It knows shapes and names; what a policy
can't mean (two rules for one entity, a floor past its ceiling) only `secmem policy check` knows.
"""

from __future__ import annotations

import json
from typing import Any

from secure_memory.policy.model import Policy


def schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12)."""
    made = Policy.model_json_schema(by_alias=True, mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "secure-memory policy",
        **{key: value for key, value in made.items() if key != "title"},
    }


def text() -> str:
    """The schema as its file has it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
