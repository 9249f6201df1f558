"""Renders a kustomization and prints its objects as one JSON list.

usage: kustomize.py DIRECTORY

Every object has to satisfy the schema of its kind, unknown fields included, in the oldest and the newest version of
Kubernetes that the deployment is for. Kinds of others' have no schema here; they are named below.
"""

import json
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import yaml

VERSIONS = ["1.29", "1.37"]

WITHOUT_SCHEMA = {
    ("external-secrets.io/v1", "ExternalSecret"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("traefik.io/v1alpha1", "Middleware"),
}


def render(directory: str) -> list[dict]:
    kubectl = Path(sys.executable).with_name("kubectl")
    rendered = subprocess.run(
        [kubectl, "kustomize", directory], capture_output=True, text=True, timeout=60, check=False
    )
    if rendered.returncode != 0 or rendered.stderr:
        sys.exit(f"{directory}: {rendered.stderr}")
    return [item for item in yaml.safe_load_all(rendered.stdout) if item is not None]


def problems(item: dict) -> list[str]:
    kind = (item["apiVersion"], item["kind"])
    if kind in WITHOUT_SCHEMA:
        return []
    name = f"{item['kind']} {item['metadata']['name']}"
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            found.append(f"{name}: {version}: {path}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError:
            found.append(f"{name}: {version} has no {kind[0]} {kind[1]}")
    return found


def main() -> None:
    items = render(sys.argv[1])
    found = [problem for item in items for problem in problems(item)]
    if found:
        sys.exit("\n".join(found))
    print(json.dumps(items))


main()
