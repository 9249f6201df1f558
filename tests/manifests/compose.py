"""Reads a compose file as the Compose specification has it and prints it as JSON, variables at their defaults.

usage: compose.py FILE
"""

import json
import re
import sys
from pathlib import Path

import compose_spec
import yaml


def main() -> None:
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    # Every variable has a default, and is put in before anything is read.
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    # Without anchors: they are YAML's, not the specification's.
    content = yaml.safe_load(text)
    try:
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(content))
    except ValueError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    print(json.dumps(content))


main()
