"""The JSON Schema of routes.yaml, made from the classes of the configuration: editors check the file with it.

It accepts what the router accepts, short forms and `${NAME}` included, as far as a schema can tell; what compares
values with each other is said by `dcrouter check` alone. JSON Schema draft 2020-12.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import attrs

from dcrouter.config.admin import Config
from dcrouter.config.classes import SHORT
from dcrouter.config.forms import Form, Secret, form_of
from dcrouter.config.keys import Field, element_of, fields_of, is_mapping, variants_of, without_none, words_of
from dcrouter.config.written import written_default

Schema = dict[str, Any]

_TEXT: Schema = {"type": ["string", "number", "boolean"]}
_VARIABLE: Schema = {"type": "string", "pattern": r"\$\{[A-Za-z_]", "description": "An environment variable."}


def json_schema() -> Schema:
    """The whole schema."""
    definitions: dict[str, Schema] = {"variable": _VARIABLE}
    root = _class(Config, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "routes.yaml of dcrouter",
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _class(cls: type, definitions: dict[str, Schema]) -> Schema:
    properties: dict[str, Schema] = {}
    required: list[str] = []
    either: list[Schema] = []
    for word, field in fields_of(cls).items():
        properties[word] = {"description": field.key.text, **_field(field, definitions)}
        default = written_default(field)
        if default is not None:
            properties[word]["default"] = default
        single = field.key.single
        if single is not None:
            properties[single] = {
                "description": f"Short for `{word}` with one element.",
                **_type(element_of(without_none(field.type)[0]), definitions),
            }
            either = [{"required": [word]}, {"required": [single]}]
            if field.key.unless is not None:
                either.append({"required": [field.key.unless], "not": {"anyOf": list(either)}})
        elif field.required and field.key.default is None:
            required.append(word)
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    variant = words_of(fields_of(cls)["type"].type) if "type" in fields_of(cls) else ()
    if variant:
        properties["type"] = {"description": fields_of(cls)["type"].key.text, "const": variant[0]}
        required.insert(0, "type")
    if required:
        schema["required"] = required
    if either:
        schema["oneOf"] = either
    return schema


def _field(field: Field, definitions: dict[str, Schema]) -> Schema:
    inner, optional = without_none(field.type)
    schema = _type(inner, definitions)
    if field.key.nonempty is not None:
        schema["minProperties" if attrs.has(inner) or is_mapping(inner) else "minItems"] = 1
    if field.key.scalar:
        schema = {"anyOf": [_type(element_of(inner), definitions), schema]}
    if optional and element_of(inner) is None and not attrs.has(inner) and not is_mapping(inner):
        schema = {"anyOf": [schema, {"type": "null"}]}
    return schema


def _type(type_: Any, definitions: dict[str, Schema]) -> Schema:
    """The schema of a type; what has a name goes among `definitions` and is referred to."""
    form = form_of(type_)
    if form is not None:
        return _reference(form.name, definitions, lambda: _form(form))
    if words_of(type_):
        words: list[Any] = list(get_args(type_))
        truths = [True, False] if "true" in words else []
        return {"anyOf": [{"enum": words + truths}, _refer("variable")]}
    if element_of(type_) is not None:
        return {"type": "array", "items": _type(element_of(type_), definitions)}
    variants = variants_of(type_)
    if variants:
        return {"oneOf": [_type(cls, definitions) for cls in variants.values()]}
    if attrs.has(type_):
        return _reference(type_.__name__, definitions, lambda: _short(type_, definitions))
    if type_ is Secret:
        from_file = {
            "type": "object",
            "properties": {"file": _TEXT},
            "required": ["file"],
            "additionalProperties": False,
        }
        return {"anyOf": [_TEXT, from_file]}
    if type_ is bool:
        return {"anyOf": [{"type": "boolean"}, _refer("variable")]}
    if is_mapping(type_):
        named, value = get_args(type_)
        numbers = {"propertyNames": {"pattern": "^[0-9]+$"}} if named is not str else {}
        return {"type": "object", **numbers, "additionalProperties": _type(value, definitions)}
    if get_args(type_):
        return {"anyOf": [_type(one, definitions) for one in get_args(type_)]}
    return dict(_TEXT)


def _form(form: Form) -> Schema:
    schema = {"description": form.words[:1].upper() + form.words[1:] + ".", **form.schema}
    # A variable fits wherever text does; elsewhere it must be said.
    loose = schema.get("type") == "string" and "pattern" not in schema
    return schema if loose else {"anyOf": [schema, _refer("variable")]}


def _short(cls: type, definitions: dict[str, Schema]) -> Schema:
    schema = {"description": (cls.__doc__ or "").strip().partition("\n")[0], **_class(cls, definitions)}
    return {"anyOf": [_type(SHORT[cls][0], definitions), schema]} if cls in SHORT else schema


def _reference(name: str, definitions: dict[str, Schema], make: Callable[[], Schema]) -> Schema:
    if name not in definitions:
        definitions[name] = {}  # classes may contain each other
        definitions[name] = make()
    return _refer(name)


def _refer(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}
