"""What of a status is urgent, and what is news."""

from __future__ import annotations

from datetime import UTC, datetime

from loop_harness import condition, inference
from phasewatt.controllers.reports import event_for, is_urgent, stalled, struggling, transitions

PROGRESSING = {"observedGeneration": 1, "ready": "0/1", "conditions": [condition("Ready", False, "Progressing")]}


def test_progress_alone_is_not_urgent() -> None:
    assert not is_urgent(PROGRESSING, {**PROGRESSING, "ready": "1/2"})
    other_reason = [condition("Ready", False, "PodsStarting", "1 of 2")]
    assert not is_urgent(PROGRESSING, {**PROGRESSING, "conditions": other_reason})


def test_a_flip_and_a_new_generation_are_urgent() -> None:
    assert is_urgent(PROGRESSING, {**PROGRESSING, "conditions": [condition("Ready", True, "Serving")]})
    assert is_urgent(PROGRESSING, {**PROGRESSING, "observedGeneration": 2})
    assert is_urgent({}, PROGRESSING)


def test_news_are_flips_and_a_stall_from_the_start_but_never_reconciling() -> None:
    ready = {"conditions": [condition("Ready", True, "Serving"), condition("Reconciling", False, "Done")]}
    before = {"conditions": [condition("Ready", False, "Progressing"), condition("Reconciling", True, "Progressing")]}
    assert [c["type"] for c in transitions(before, ready)] == ["Ready"]
    assert transitions(ready, ready) == []
    assert transitions({}, ready) == []
    assert [c["type"] for c in transitions({}, stalled({}, "Invalid", "because", 1))] == ["Stalled"]


def test_a_stall_ends_reconciling_and_keeps_other_conditions() -> None:
    status = stalled(struggling(PROGRESSING, "InternalError", "oops", 1), "Invalid", "because", 3)
    found = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
    assert found == {
        "Ready": ("False", "Invalid"),
        "Reconciling": ("False", "Invalid"),
        "Stalled": ("True", "Invalid"),
    }


def test_what_serves_beside_a_stall_is_told_and_not_called_ready() -> None:
    serving = {"conditions": [condition("Ready", True, "Serving", "1 of 1 group serves requests.")]}
    ready = next(c for c in stalled(serving, "NameTaken", "A name is taken.", 2)["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "NameTaken")
    assert ready["message"] == "A name is taken. 1 of 1 group serves requests."


def test_an_event_names_its_object_and_warns_of_bad_news() -> None:
    obj = inference("chat")
    obj["metadata"] |= {"uid": "u", "resourceVersion": "5"}
    now = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    stall = stalled({}, "Invalid", "x" * 2000, 1)["conditions"][-1]
    event = event_for(obj, stall, "pod-a", now)
    assert (event["type"], event["reason"], event["eventTime"]) == ("Warning", "Invalid", "2026-01-02T03:04:05.000006Z")
    assert event["regarding"]["name"] == "chat"
    assert len(event["note"]) == 1024
    assert event_for(obj, condition("Ready", True, "Serving"), "pod-a", now)["type"] == "Normal"
    assert event_for(obj, condition("Ready", False, "Crashed"), "pod-a", now)["type"] == "Warning"
