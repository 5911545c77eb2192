"""Who gets a slot, and which card."""

import pytest

from states.admission import Capacity, Card, Grant, Impossible, Room, admit, room
from states.codes import ErrorCode
from states.events import RetryScheduled
from states.job import Job
from states.table import State
from tests.support.job_stages import manifest


def job(name, state=State.ACKED, *, offered_ns=0, gpu=False, vram_mb=0, gpus=()):
    return Job(
        job_id=name,
        state=state,
        offered_ns=offered_ns,
        manifest=manifest(gpu=gpu, vram_mb=vram_mb),
        gpus=gpus,
    )


def waiting_again(name, back_to="PREP", *, gpu=False):
    return job(name, State.RETRY_WAIT, gpu=gpu)._replace(retry=RetryScheduled(back_to, None, "", 1.0, 0))


SMALL = Card("GPU-small", 8_192, 8_000)
LARGE = Card("GPU-large", 24_576, 24_000)


def granted(answers):
    return [(x.job.job_id, x.gpus) for x in answers if isinstance(x, Grant)]


def test_first_in_first_out_whatever_the_order_of_the_list():
    jobs = [job("c", offered_ns=3), job("a", offered_ns=1), job("b", offered_ns=2)]
    assert granted(admit(jobs, jobs, Capacity(2, 0))) == [("a", ()), ("b", ())]


def test_slots_held_count():
    jobs = [job("a", State.RUNNING), job("b", State.PREP), job("c")]
    assert admit(jobs[2:], jobs, Capacity(2, 0)) == []
    assert granted(admit(jobs[2:], jobs, Capacity(3, 0))) == [("c", ())]


@pytest.mark.parametrize("state", [State.PULLING, State.ACKED, State.UPLOADING, State.RETRY_WAIT])
def test_a_job_that_neither_prepares_nor_runs_holds_no_slot(state):
    assert granted(admit([job("b")], [job("a", state)], Capacity(1, 0))) == [("b", ())]


def test_fewer_slots_after_a_reload_grant_nothing_and_take_nothing():
    jobs = [job("a", State.RUNNING), job("b", State.RUNNING), job("c")]
    assert admit(jobs[2:], jobs, Capacity(1, 0)) == []
    assert room(jobs, Capacity(1, 0)) == Room(0, ())


def test_the_kinds_have_lines_of_their_own():
    jobs = [job("cpu-1", State.RUNNING), job("cpu-2", offered_ns=1), job("gpu-1", offered_ns=2, gpu=True)]
    assert granted(admit(jobs[1:], jobs, Capacity(1, 1, (SMALL,)))) == [("gpu-1", ("GPU-small",))]


def test_the_card_with_the_least_memory_in_use_is_taken():
    cards = (Card("GPU-a", 24_000, 20_000), Card("GPU-b", 16_000, 15_000), Card("GPU-c", 48_000, 46_000))
    assert granted(admit([job("a", gpu=True)], [], Capacity(0, 1, cards))) == [("a", ("GPU-b",))]
    large = job("a", gpu=True, vram_mb=20_000)
    assert granted(admit([large], [], Capacity(0, 1, cards))) == [("a", ("GPU-c",))]


def test_equal_cards_are_taken_in_the_order_of_their_ids():
    cards = (Card("GPU-b", 8_000, 8_000), Card("GPU-a", 8_000, 8_000))
    jobs = [job("1", gpu=True), job("2", gpu=True)]
    assert granted(admit(jobs, [], Capacity(0, 2, cards))) == [("1", ("GPU-a",)), ("2", ("GPU-b",))]


def test_a_card_that_is_exactly_large_enough_fits():
    assert granted(admit([job("a", gpu=True, vram_mb=8_192)], [], Capacity(0, 1, (SMALL,)))) != []


def test_one_job_a_card_even_with_slots_to_spare():
    jobs = [job("a", State.RUNNING, gpu=True, gpus=("GPU-small",)), job("b", gpu=True)]
    assert admit(jobs[1:], jobs, Capacity(0, 5, (SMALL,))) == []


def test_a_job_for_a_busy_large_card_does_not_hold_up_one_for_a_free_small_card():
    holder = job("held", State.RUNNING, gpu=True, gpus=("GPU-large",))
    large, small = job("large", offered_ns=1, gpu=True, vram_mb=20_000), job("small", offered_ns=2, gpu=True)
    capacity = Capacity(0, 2, (SMALL, LARGE))
    assert granted(admit([large, small], [holder], capacity)) == [("small", ("GPU-small",))]
    # The large card comes free with its slot, and the earlier job is asked first.
    busy = job("small", State.RUNNING, gpu=True, gpus=("GPU-small",))
    late = job("late", offered_ns=3, gpu=True)
    assert granted(admit([late, large], [busy], capacity)) == [("large", ("GPU-large",))]


@pytest.mark.parametrize(
    ("wanted", "capacity", "code", "why"),
    [
        ({}, Capacity(0, 1, (SMALL,)), ErrorCode.NORESOURCE, "this node has no CPU slots"),
        ({"gpu": True}, Capacity(1, 0, (SMALL,)), ErrorCode.NOGPU, "max_concurrent_gpu is 0"),
        ({"gpu": True}, Capacity(1, 1), ErrorCode.NOGPU, "no GPU is there now"),
        (
            {"gpu": True, "vram_mb": 12_000},
            Capacity(1, 1, (SMALL, Card("GPU-tiny", 2_048, 2_048))),
            ErrorCode.NOGPU,
            "wants 12000 MiB of video memory; the largest card here has 8192 MiB",
        ),
    ],
)
def test_what_can_never_be_held_is_said_at_once(wanted, capacity, code, why):
    (answer,) = admit([job("a", **wanted)], [], capacity)
    assert isinstance(answer, Impossible)
    assert answer.failure.code is code
    assert why in answer.failure.message


def test_what_can_only_not_be_held_now_waits():
    holder = job("held", State.RUNNING, gpu=True, gpus=("GPU-large",))
    assert admit([job("a", gpu=True, vram_mb=20_000)], [holder], Capacity(0, 2, (SMALL, LARGE))) == []


@pytest.mark.parametrize("vram_mb", [None, "all", True, 1.5, []])
def test_a_wish_that_is_no_number_is_no_wish(vram_mb):
    odd = Job(job_id="a", state=State.ACKED, manifest={"requirements": {"gpu": True, "vram_mb": vram_mb}})
    assert granted(admit([odd], [], Capacity(0, 1, (SMALL,)))) == [("a", ("GPU-small",))]


def test_slots_cannot_be_negative():
    with pytest.raises(ValueError, match="can't be negative: -1 CPU, 1 GPU"):
        Capacity(-1, 1)


# Room: what may be pulled for.


def test_an_idle_node_has_room_for_all_it_has():
    found = room([], Capacity(2, 2, (SMALL, LARGE)))
    assert found == Room(2, (24_000, 8_000))
    assert found.any


@pytest.mark.parametrize(("found", "is_room"), [(Room(0, ()), 0), (Room(1, ()), 1), (Room(0, (8_000,)), 1)])
def test_room_for_either_kind_is_room(found, is_room):
    assert found.any == bool(is_room)


def test_no_more_cards_than_slots_are_offered():
    assert room([], Capacity(0, 1, (SMALL, LARGE))) == Room(0, (24_000,))


@pytest.mark.parametrize(
    "claim", [job("a"), job("a", State.PULLING), job("a", State.PREP), waiting_again("a")]
)
def test_a_job_on_its_way_to_a_slot_has_a_claim(claim):
    assert room([claim], Capacity(1, 0)) == Room(0, ())
    assert not room([claim], Capacity(1, 0)).any


@pytest.mark.parametrize("past", [job("a", State.UPLOADING), waiting_again("a", "UPLOADING")])
def test_a_job_that_only_delivers_has_none(past):
    assert room([past], Capacity(1, 0)) == Room(1, ())


def test_the_card_that_a_waiting_job_is_going_to_take_is_not_offered():
    assert room([job("a", gpu=True)], Capacity(0, 2, (SMALL,))) == Room(0, ())
    large = job("a", gpu=True, vram_mb=20_000)
    assert room([large], Capacity(0, 2, (SMALL, LARGE))) == Room(0, (8_000,))
