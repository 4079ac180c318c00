"""Our schema of W&B's API: all of it is answered, and what clients ask beyond it is known by name."""

from pathlib import Path

import clients
import documents
import pytest
from graphql import (
    FragmentDefinitionNode,
    GraphQLSyntaxError,
    NoUnusedFragmentsRule,
    NoUnusedVariablesRule,
    TypeInfo,
    TypeInfoVisitor,
    Visitor,
    is_object_type,
    parse,
    specified_rules,
    validate,
    visit,
)

from labgate.standins.wandb import answers, changes
from labgate.standins.wandb.execution import schema, snake, unanswered

UNCOVERED = {
    word
    for line in Path(__file__).with_name("uncovered.txt").read_text(encoding="utf-8").splitlines()
    for word in [line.partition("#")[0].strip()]
    if word
}
"""Operations of the newest client that our schema does not answer in full."""

ANSWERING = {
    "Query": answers.Query,
    "Mutation": changes.Mutation,
    "Project": answers.ProjectAnswer,
    "Run": answers.RunAnswer,
    "File": answers.FileAnswer,
}
"""Types that a class answers; all others are mappings, whose absent items are null."""


@pytest.mark.parametrize("name", ANSWERING)
def test_every_field_has_its_answer(name):
    """A field that the schema has and the class has not would be a failure of ours at run time."""
    known = set(dir(ANSWERING[name])) | set(ANSWERING[name].__init__.__code__.co_names)
    type = schema().type_map[name]
    lacking = [
        field for field in type.fields if snake(field) not in known and not unanswered(type, field, [])
    ]
    assert not lacking


def test_every_answer_has_its_field():
    """Nothing is kept ready that nobody can ask for."""
    for name, answer in ANSWERING.items():
        fields = {snake(field) for field in schema().type_map[name].fields}
        public = {each for each in vars(answer) if not each.startswith("_")}
        extra = public - fields - {"store", "url", "query", "file_url"}
        assert not extra, f"{name}: {sorted(extra)}"


def test_every_type_is_reachable():
    seen, todo = set(), [schema().query_type, schema().mutation_type]
    while todo:
        type = todo.pop()
        if type.name in seen:
            continue
        seen.add(type.name)
        if is_object_type(type):
            for field in type.fields.values():
                for each in (field.type, *(argument.type for argument in field.args.values())):
                    while hasattr(each, "of_type"):
                        each = each.of_type
                    todo.append(each)
    ours = {name for name, type in schema().type_map.items() if is_object_type(type) and name[:2] != "__"}
    assert ours <= seen


def wrong(document):
    """What a document asks for and our schema does not answer; and whether the client hears of it."""
    try:
        parsed = parse(document)
    except GraphQLSyntaxError as error:
        return [f"not to be parsed: {error.message}"], True
    if all(isinstance(each, FragmentDefinitionNode) for each in parsed.definitions):
        return [], True  # judged where it is spread
    rules = [rule for rule in specified_rules if rule not in (NoUnusedVariablesRule, NoUnusedFragmentsRule)]
    found = [error.message for error in validate(schema(), parsed, rules)]
    without = Unanswered()
    visit(parsed, TypeInfoVisitor(without.info, without))
    return found + without.found, bool(without.found)


class Unanswered(Visitor):
    """Gathers what makes a whole request unanswered: unknown fields of the root, and those marked so."""

    def __init__(self):
        super().__init__()
        self.info, self.found = TypeInfo(schema()), []

    def enter_field(self, node, *_):
        parent, name = self.info.get_parent_type(), node.name.value
        if not is_object_type(parent):
            return
        if name not in parent.fields:
            if parent in (schema().query_type, schema().mutation_type):
                self.found.append(f"{name} is unknown")
        elif unanswered(parent, name, [node]):
            self.found.append(f"{name} is unanswered")


@pytest.mark.clients
def test_what_the_newest_client_asks_is_covered_or_known():
    python = clients.wandb("newest")
    (package,) = python.parent.parent.glob("lib/python*/site-packages/wandb")
    found = documents.in_package(package)
    names = {documents.name_of(each) for each in found}
    assert len(found) > 100 and {"UpsertBucket", "HistoryPage", "Runs", "RunFullHistory"} <= names
    uncovered, silent = {}, {}
    for document in found:
        reasons, heard = wrong(document)
        if reasons:
            uncovered[documents.name_of(document)] = reasons[0]
        if not heard and reasons:
            silent[documents.name_of(document)] = reasons[0]
    new = {name: reason for name, reason in uncovered.items() if name not in UNCOVERED}
    assert not new, "\n".join(f"{name}: {reason}" for name, reason in sorted(new.items()))
    gone = UNCOVERED - set(uncovered)
    assert not gone, f"covered, or no longer asked: {sorted(gone)}"
    assert not silent, f"these would get half an answer for a whole one: {silent}"
