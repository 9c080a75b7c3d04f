"""Text that came from outside, read with care."""

import json


def json_object(text: str) -> dict[str, str]:
    """Return a JSON object of strings; anything else is shown as it is under the name `text`."""
    try:
        found = json.loads(text)
    except ValueError:
        return {"text": text} if text else {}
    if not isinstance(found, dict):
        return {"text": text}
    return {
        str(name): value if isinstance(value, str) else json.dumps(value) for name, value in found.items()
    }
