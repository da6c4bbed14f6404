"""Objects of others' kinds, held to the schemas of those who define them, strictly: no unknown member.

scripts/install-tools.sh puts the definitions (CustomResourceDefinition) below target/tools/crds.
"""

import functools

import jsonschema
import yaml

from tools import TOOLS


def strict(schema):
    """As JSON Schema, with what Kubernetes prunes forbidden."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(part) for name, part in schema.items()}
    if isinstance(made.get("properties"), dict) and "type" in made:
        open_ended = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
        if not open_ended:
            made["additionalProperties"] = False
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if made.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


@functools.lru_cache
def definitions():
    found = {}
    for file in sorted((TOOLS / "crds").glob("*.yaml")):
        for crd in yaml.load_all(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if not crd or crd.get("kind") != "CustomResourceDefinition":
                continue
            spec = crd["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = schema
    return found


def knows(it):
    return (it["apiVersion"], it["kind"]) in definitions()


def validate(it):
    jsonschema.Draft7Validator(definitions()[it["apiVersion"], it["kind"]]).validate(it)
