"""Validates configurations: schema.py SCHEMA FILE...

Prints a JSON object: for each file what the schema has against it, and where; nothing for those that it takes.
"""

import json
import sys
import tomllib

from jsonschema import Draft202012Validator


def complaints(validator, file):
    try:
        with open(file, "rb") as opened:
            document = json.loads(json.dumps(tomllib.load(opened), default=str))
    except tomllib.TOMLDecodeError as error:
        return [f"no TOML: {error}"]
    found = validator.iter_errors(document)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}"[:500] for error in found]


def main():
    with open(sys.argv[1]) as opened:
        schema = json.load(opened)
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    results = {file: complaints(validator, file) for file in sys.argv[2:]}
    print(json.dumps({file: found for file, found in results.items() if found}))


main()
