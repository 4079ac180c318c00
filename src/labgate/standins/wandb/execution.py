"""GraphQL as an older or newer server would take it: what we do not know is left out and said, not refused.

Clients of many versions ask for fields, arguments, input fields and types that our schema has not. A document
that violates it is executed all the same: unknown fields are left out, unknown input fields are dropped,
variables of unknown types are taken as JSON. Only what a whole request hinges on is an error: an operation
that we have not, or a field that the schema marks with `@unanswered`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from graphql import (
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    InlineFragmentNode,
    NamedTypeNode,
    NameNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    StringValueNode,
    VariableDefinitionNode,
    Visitor,
    build_schema,
    execute_sync,
    is_input_type,
    parse,
    type_from_ast,
    validate,
    visit,
)

from labgate.standins.wandb.errors import RefusedError, UnansweredError

TOKENS = 20_000
"""Words of the longest document that is parsed; the longest known has a few hundred."""


class NotGraphQLError(ValueError):
    """A document that cannot be parsed, or an operation that it does not hold."""


@dataclass
class Outcome:
    """What came of a request: `response` is its JSON, `operation` its name and `fields` those of its root.

    `notes` says what was odd; `unanswered` and `faults` say why there is no answer: for want of one, or
    because of a failure of labgate.
    """

    response: dict[str, Any]
    operation: str
    fields: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@lru_cache(maxsize=1)
def schema() -> GraphQLSchema:
    """Our schema of W&B's API."""
    return build_schema(Path(__file__).with_name("schema.graphql").read_text(encoding="utf-8"))


def is_mutation(document: DocumentNode, name: str | None) -> bool:
    """Whether the operation of that name changes anything."""
    return _operation(document, name).operation is OperationType.MUTATION


@lru_cache(maxsize=256)
def parsed(text: str) -> DocumentNode:
    """A document. Raises NotGraphQLError."""
    try:
        return parse(text, no_location=True, max_tokens=TOKENS)
    except (GraphQLError, RecursionError) as error:
        raise NotGraphQLError(f"not GraphQL: {error}") from error


def execute(
    document: DocumentNode, name: str | None, variables: Mapping[str, Any], query: object, mutation: object
) -> Outcome:
    """Execute one operation on the objects that answer for `Query` and `Mutation`."""
    operation = _operation(document, name)
    root, answers = {
        OperationType.QUERY: (schema().query_type, query),
        OperationType.MUTATION: (schema().mutation_type, mutation),
    }.get(operation.operation, (None, None))
    title = operation.name.value if operation.name else ""
    if root is None:
        raise NotGraphQLError("subscriptions are not taken")
    fragments = {each.name.value: each for each in _fragments(document)}
    asked = tuple(dict.fromkeys(_names(operation.selection_set, fragments, 0)))
    unknown = [each for each in asked if each not in root.fields and not each.startswith("__")]
    if unknown:
        words = f"{', '.join(unknown)} is not answered by labgate"
        return Outcome(_errors(words), title, asked, unanswered=unknown)
    known = visit(document, _KnownTypes())
    operation = _operation(known, name)
    result = execute_sync(
        schema(),
        known,
        root_value=answers,
        variable_values=_known_variables(operation, variables),
        operation_name=title or None,
        field_resolver=_resolve,
    )
    outcome = Outcome({"data": result.data}, title, asked)
    if result.errors:
        outcome.response["errors"] = [
            {"message": error.message, "path": list(error.path or [])} for error in result.errors
        ]
        for error in result.errors:
            _sort(error, outcome)
    if not outcome.unanswered:
        outcome.notes += violations(document)
    return outcome


@lru_cache(maxsize=256)
def violations(document: DocumentNode) -> tuple[str, ...]:
    """What a document asks for that our schema has not, in words."""
    return tuple(dict.fromkeys(error.message for error in validate(schema(), document)))


def _errors(message: str) -> dict[str, Any]:
    return {"data": None, "errors": [{"message": message}]}


def _sort(error: GraphQLError, outcome: Outcome) -> None:
    cause = error.original_error
    place = ".".join(map(str, error.path or []))
    if isinstance(cause, UnansweredError):
        outcome.unanswered.append(f"{place}: {cause}")
    elif cause is None or isinstance(cause, RefusedError | GraphQLError):
        outcome.notes.append(f"{place}: {error.message}".removeprefix(": "))
    else:
        outcome.faults.append(f"{type(cause).__name__} in {place}: {cause}")


def _operation(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
    """The operation of that name, or the only one; newer clients send "" for no name."""
    found = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    if name:
        found = [each for each in found if each.name and each.name.value == name]
    if len(found) != 1:
        raise NotGraphQLError(f"{len(found) or 'no'} operations fit the name {name!r:.80}")
    return found[0]


def _fragments(document: DocumentNode) -> Iterable[FragmentDefinitionNode]:
    return (each for each in document.definitions if isinstance(each, FragmentDefinitionNode))


def _names(
    selections: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode], depth: int
) -> Iterable[str]:
    """The fields selected on the root, those of fragments included."""
    for each in selections.selections:
        if isinstance(each, FieldNode):
            yield each.name.value
        elif depth < 10:
            inner: Any = each
            if isinstance(each, FragmentSpreadNode):
                inner = fragments.get(each.name.value)
            if isinstance(inner, InlineFragmentNode | FragmentDefinitionNode):
                yield from _names(inner.selection_set, fragments, depth + 1)


class _KnownTypes(Visitor):
    """Declares each variable of a type that our schema has not as JSON."""

    def enter_variable_definition(
        self, node: VariableDefinitionNode, *_: Any
    ) -> VariableDefinitionNode | None:
        changed = visit(node.type, _KnownNames())
        if changed is node.type:
            return None
        parts = {key: getattr(node, key) for key in node.keys if key != "loc"}
        return VariableDefinitionNode(**{**parts, "type": changed})


class _KnownNames(Visitor):
    def enter_named_type(self, node: NamedTypeNode, *_: Any) -> NamedTypeNode | None:
        if is_input_type(schema().type_map.get(node.name.value)):
            return None
        return NamedTypeNode(name=NameNode(value="JSON"))


def _known_variables(operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The values of variables without the input fields that our schema has not."""
    known = dict(variables)
    for each in operation.variable_definitions:
        name = each.variable.name.value
        if name in known:
            known[name] = _pruned(known[name], type_from_ast(schema(), each.type))  # type: ignore[arg-type]
    return known


def _pruned(value: Any, type: GraphQLInputType | None) -> Any:
    if isinstance(type, GraphQLNonNull):
        return _pruned(value, type.of_type)
    if isinstance(type, GraphQLList) and isinstance(value, list):
        return [_pruned(item, type.of_type) for item in value]
    if isinstance(type, GraphQLInputObjectType) and isinstance(value, dict):
        return {
            key: _pruned(item, type.fields[key].type) for key, item in value.items() if key in type.fields
        }
    return value


def _resolve(source: Any, info: GraphQLResolveInfo, **arguments: Any) -> Any:
    """The value of a field: the item of a mapping; or the attribute of an object, called if it is a method.

    `displayName` is `display_name` in Python, and so are arguments.
    """
    parent: GraphQLObjectType = info.parent_type
    if unanswered(parent, info.field_name, info.field_nodes):
        raise UnansweredError(f"{info.field_name} is not answered by labgate")
    if _directive(parent, info.field_name):
        return None
    if isinstance(source, Mapping):
        return source.get(info.field_name)
    value = getattr(source, snake(info.field_name))
    return value(**{snake(name): each for name, each in arguments.items()}) if callable(value) else value


def unanswered(parent: GraphQLObjectType, name: str, nodes: Iterable[FieldNode]) -> bool:
    """Whether the schema says of a field, as these nodes ask for it, that we have no answer."""
    directive = _directive(parent, name)
    if directive is None:
        return False
    selected = {
        each.name.value if isinstance(each, FieldNode) else ""
        for node in nodes
        for each in (node.selection_set.selections if node.selection_set else ())
    }
    allowed = {each.value.value for each in directive.arguments if isinstance(each.value, StringValueNode)}
    return not selected or not selected <= allowed


def _directive(parent: GraphQLObjectType, name: str) -> DirectiveNode | None:
    node = parent.fields[name].ast_node
    found = (each for each in (node.directives if node else ()) if each.name.value == "unanswered")
    return next(found, None)


@lru_cache(maxsize=1024)
def snake(name: str) -> str:
    """`displayName` as `display_name`, `runID` as `run_id`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
