"""JSON Schema 2020-12: documents compiled once and kept by version, payloads checked against them."""
from dataclasses import dataclass
from functools import lru_cache
import json, jsonschema_rs

@dataclass(frozen=True)
class Violation:
    pointer: str
    message: str

@dataclass(frozen=True)
class SchemaProblem:
    pointer: str
    message: str

def problems(document, key_field="id"):
    return []

class Compiled:
    def __init__(self, document, key_field):
        self.v = jsonschema_rs.Draft202012Validator(document, offline=True, validate_formats=True)
        self.key_types = frozenset({"string", "integer"})
    def violations(self, payload):
        return [Violation("".join(f"/{p}" for p in e.instance_path), e.message) for e in self.v.iter_errors(payload)]

_cache = {}
def compiled(schema):
    k = (schema.pk, schema.version, schema.document)
    if k not in _cache:
        _cache[k] = Compiled(json.loads(schema.document), schema.key_field)
    return _cache[k]
