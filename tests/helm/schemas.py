"""Strict schemas of Kubernetes' own kinds and of the others that the chart renders."""

import jsonschema
import kubernetes_validate
from kinds import FOREIGN, definitions

VERSIONS = [f"1.{minor}" for minor in range(29, 38)]
# The first minor version that has a kind.
SINCE = {
    "MutatingAdmissionPolicy": 36,
    "MutatingAdmissionPolicyBinding": 36,
    "ValidatingAdmissionPolicy": 30,
    "ValidatingAdmissionPolicyBinding": 30,
}


def minor(version):
    return int(version.split(".")[1])


def strict(schema):
    """A CRD's schema that refuses unknown fields."""
    if not isinstance(schema, dict):
        return schema
    out = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {field: strict(inner) for field, inner in value.items()}
        elif key in ("items", "not", "additionalProperties"):
            out[key] = strict(value)
        else:
            # allOf, anyOf and oneOf are conditions on fields that `properties` declares: they stay open.
            out[key] = value
    if out.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
    if out.get("type") == "object" and "properties" in out and not out.get("x-kubernetes-preserve-unknown-fields"):
        out.setdefault("additionalProperties", False)
    if out.get("nullable") and "type" in out:
        out["type"] = [out["type"], "null"]
    out.pop("format", None)
    return out


def load_foreign():
    """The schema of each kind of FOREIGN, by apiVersion and kind."""
    schemas = {}
    for spec in (crd["spec"] for crd in definitions()):
        for version in spec["versions"]:
            key = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
            if key in FOREIGN:
                schemas[key] = strict(version["schema"]["openAPIV3Schema"])
    for schema in schemas.values():
        schema["properties"].update(metadata={"type": "object"}, apiVersion={"type": "string"}, kind={"type": "string"})
    return schemas


def errors(one, version, foreign):
    """The schema errors of an object in that version of Kubernetes."""
    key = (one["apiVersion"], one["kind"])
    if key in foreign:
        found = jsonschema.Draft202012Validator(foreign[key]).iter_errors(one)
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]
    if minor(version) < SINCE.get(one["kind"], 0):
        return [f"Kubernetes {version} does not have this kind"]
    try:
        kubernetes_validate.validate(one, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    return []
