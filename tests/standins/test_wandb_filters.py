"""Which runs a filter in MongoDB's language fits, and their order."""

from datetime import UTC, datetime

import pytest

from labgate.standins.wandb.filters import UnsupportedFilterError, ordered, predicate


def run(**changes):
    return {
        "name": "r1",
        "display_name": "first",
        "state": "finished",
        "group": None,
        "job_type": None,
        "tags": ["a", "b"],
        "notes": None,
        "description": None,
        "host": "h",
        "commit": None,
        "sweep": None,
        "username": "labgate",
        "created_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "heartbeat_at": datetime(2026, 1, 2, 4, tzinfo=UTC),
        "config": {
            "lr": {"value": 0.1},
            "flag": {"value": True},
            "none": {"value": None},
            "a.b": {"value": 3},
            "opt": {"value": {"name": "adam", "value": 7, "betas": [0.9, 0.99]}},
            "plain": 5,
        },
        "summary": {"loss": 0.5, "val/acc": 0.9, "best": {"epoch": 3}, "nan": "NaN", "t": "NaN"},
        "keys_info": {"keys": {"loss": {"typeCounts": []}}},
        **changes,
    }


FITTING = [
    {},
    {"name": "r1"},
    {"displayName": "first", "display_name": {"$ne": "second"}},
    {"config.lr": 0.1},
    {"config.lr.value": {"$eq": 0.1}},
    {"config.a.b": 3},
    {"config.opt.name": "adam"},
    {"config.opt.value.name": "adam"},
    {"config.opt.value": {"name": "adam", "value": 7, "betas": [0.9, 0.99]}},
    {"config.opt.betas": 0.9},
    {"config.opt.betas": {"$gt": 0.95}},
    {"config.plain": {"$in": [4, 5]}},
    {"config.none": None},
    {"config.absent": None},
    {"config.absent": {"$exists": False}},
    {"config.none": {"$exists": True}},
    {"config.absent": {"$ne": 1}},
    {"config.absent": {"$nin": [1]}},
    {"config.flag": True},
    {"config.flag": {"$ne": 1}},
    {"summary_metrics.loss": {"$gt": 0.4, "$lt": 0.6}},
    {"summaryMetrics.val/acc": {"$gte": 0.9, "$lte": 0.9}},
    {"summary_metrics.best.epoch": 3},
    {"tags": "a"},
    {"tags": {"$in": ["b", "c"]}},
    {"tags": {"$nin": ["c"]}},
    {"tags.a": True},
    {"group": None},
    {"group": {"$exists": False}},
    {"keys_info.keys.loss": {"$exists": True}},
    {"display_name": {"$regex": "^FI", "$options": "i"}},
    {"created_at": {"$gt": "2026-01-01"}},
    {"createdAt": {"$gte": "2026-01-02T03:04:05Z", "$lt": "2026-01-02T03:04:06"}},
    {"$and": [{"name": "r1"}, {"state": "finished"}]},
    {"$or": [{"name": "x"}, {"state": {"$in": ["finished"]}}]},
    {"$nor": [{"name": "x"}, {"state": "failed"}]},
    {"config.lr": {"$not": {"$gt": 0.1}}},
    {"$or": [{"$and": [{"name": "r1"}, {"config.lr": 0.1}]}, {"name": "y"}]},
]
NOT_FITTING = [
    {"name": "r"},
    {"config.lr": {"$gt": 0.1}},
    {"config.lr": "0.1"},
    {"config.flag": 1},
    {"config.absent": {"$gt": 0}},
    {"config.absent": {"$exists": True}},
    {"summary_metrics.nan": {"$gt": 0}},
    {"summary_metrics.loss": {"$gt": "a"}},
    {"tags": "c"},
    {"tags": {"$ne": "a"}},
    {"tags.c": True},
    {"group": {"$exists": True}},
    {"display_name": {"$regex": "^FI"}},
    {"config.lr": {"$regex": "1"}},
    {"created_at": {"$lt": "2026-01-01"}},
    {"$and": [{"name": "r1"}, {"state": "failed"}]},
    {"$or": []},
    {"$nor": [{"name": "r1"}]},
]
UNSUPPORTED = [
    [],
    "name",
    {"nothing": 1},
    {"$where": "1"},
    {"$and": {"name": 1}},
    {"$or": [{"name": 1}, {"config.x": {"$near": 1}}]},
    {"config.x": {"$elemMatch": {}}},
    {"config.x": {"$in": 1}},
    {"config.x": {"$not": 1}},
    {"config.x": {"$gt": 1, "$size": 2}},
    {"name": {"$regex": "("}},
    {"name": {"$regex": 1}},
    {"name": {"$regex": "a", "$options": "z"}},
    {"name": {"$options": "i"}},
]


@pytest.mark.parametrize("condition", FITTING, ids=str)
def test_a_run_fits(condition):
    assert predicate(condition)(run())


@pytest.mark.parametrize("condition", NOT_FITTING, ids=str)
def test_a_run_does_not_fit(condition):
    assert not predicate(condition)(run())


@pytest.mark.parametrize("condition", UNSUPPORTED, ids=str)
def test_what_is_not_understood_is_said(condition):
    with pytest.raises(UnsupportedFilterError):
        predicate(condition)


def test_a_date_that_is_none_is_said():
    with pytest.raises(UnsupportedFilterError, match="is no date"):
        predicate({"created_at": {"$gt": "yesterday"}})(run())


def names(order, *runs):
    return ordered([(each, each["name"]) for each in runs], order)


def test_runs_without_a_value_come_last():
    runs = [run(name=str(number), summary={"x": x}) for number, x in enumerate([2, None, 1, "a", "NaN"])]
    assert names("+summary_metrics.x", *runs) == ["2", "0", "4", "3", "1"]
    assert names("-summary_metrics.x", *runs) == ["3", "4", "0", "2", "1"]


def test_several_orders_are_told_apart_by_commas():
    runs = [run(name=name, state=state) for name, state in (("a", "x"), ("b", "y"), ("c", "x"))]
    assert names("-state, +name", *runs) == ["b", "a", "c"]
    assert names(None, *runs) == ["a", "b", "c"]


def test_an_order_by_nothing_known_is_said():
    with pytest.raises(UnsupportedFilterError):
        names("-loss")
