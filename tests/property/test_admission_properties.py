"""What holds for every line of jobs and every set of cards."""

from hypothesis import given
from hypothesis import strategies as st

from states.admission import Capacity, Card, Grant, Impossible, admit, room
from states.job import Job
from states.table import State
from tests.support.job_stages import manifest

SIZES = st.integers(0, 4).map(lambda n: n * 8_000)


@st.composite
def nodes(draw):
    """A node in the midst of its work: capacity, jobs that hold slots, jobs that wait for one."""
    cards = tuple(
        Card(f"GPU-{n}", vram, draw(st.integers(0, vram)))
        for n, vram in enumerate(draw(st.lists(SIZES.filter(bool), max_size=4)))
    )
    capacity = Capacity(draw(st.integers(0, 3)), draw(st.integers(0, 4)), cards)
    held = [
        Job(job_id=f"cpu-{n}", state=draw(st.sampled_from([State.PREP, State.RUNNING])), manifest=manifest())
        for n in range(draw(st.integers(0, capacity.cpu)))
    ]
    busy = draw(st.lists(st.sampled_from(cards), unique=True, max_size=capacity.gpu)) if cards else []
    held += [
        Job(job_id=f"on-{card.id}", state=State.RUNNING, manifest=manifest(gpu=True), gpus=(card.id,))
        for card in busy
    ]
    waiting = [
        Job(
            job_id=f"w-{n}",
            state=State.ACKED,
            offered_ns=draw(st.integers(0, 5)),
            manifest=manifest(gpu=gpu, vram_mb=draw(SIZES) if gpu else 0),
        )
        for n, gpu in enumerate(draw(st.lists(st.booleans(), max_size=6)))
    ]
    return capacity, held, draw(st.permutations(waiting))


def _order(job):
    return (job.offered_ns, job.job_id, job.attempt)


def _vram(job):
    return job.requirements["vram_mb"]


def _decide(node):
    capacity, held, waiting = node
    answers = admit(waiting, [*held, *waiting], capacity)
    return answers, [x for x in answers if isinstance(x, Grant)]


@given(nodes())
def test_slots_are_never_exceeded_and_no_card_is_given_twice(node):
    capacity, held, _ = node
    _, grants = _decide(node)
    everyone = [(job, job.gpus) for job in held] + [(x.job, x.gpus) for x in grants]
    assert sum(not job.wants_gpu for job, _ in everyone) <= capacity.cpu
    assert sum(job.wants_gpu for job, _ in everyone) <= capacity.gpu
    cards = [card for _, gpus in everyone for card in gpus]
    assert len(cards) == len(set(cards))
    assert set(cards) <= {card.id for card in capacity.cards}
    assert all(len(x.gpus) == x.job.wants_gpu for x in grants)


@given(nodes())
def test_every_job_gets_one_answer_at_most_and_the_earlier_ones_first(node):
    answers, _ = _decide(node)
    order = [_order(x.job) for x in answers]
    assert order == sorted(set(order))


@given(nodes())
def test_nobody_waits_for_what_is_free_and_nobody_is_overtaken_for_it(node):
    capacity, held, waiting = node
    answers, grants = _decide(node)
    left = [job for job in waiting if job not in [x.job for x in answers]]
    used = {card for x in [*held] for card in x.gpus} | {card for x in grants for card in x.gpus}
    cpu_used = sum(not job.wants_gpu for job in held) + sum(not x.job.wants_gpu for x in grants)
    gpu_used = sum(job.wants_gpu for job in held) + sum(x.job.wants_gpu for x in grants)
    size = {card.id: card.vram_mb for card in capacity.cards}
    for job in left:
        overtakers = [x for x in grants if _order(x.job) > _order(job) and x.job.wants_gpu == job.wants_gpu]
        if job.wants_gpu:
            fitting = {card for card in size if size[card] >= _vram(job)}
            assert gpu_used == capacity.gpu or fitting <= used
            # Only a card that is too small for it may go to a later job.
            assert all(size[x.gpus[0]] < _vram(job) for x in overtakers)
        else:
            assert cpu_used == capacity.cpu
            assert overtakers == []


@given(nodes())
def test_the_least_used_card_that_fits_is_chosen(node):
    capacity, held, _ = node
    _, grants = _decide(node)
    cards = {card.id: card for card in capacity.cards}
    free = set(cards) - {card for job in held for card in job.gpus}
    for grant in grants:
        for chosen in grant.gpus:
            assert cards[chosen].vram_mb >= _vram(grant.job)
            rivals = [cards[x] for x in free if cards[x].vram_mb >= _vram(grant.job)]
            assert cards[chosen].used_mb == min(card.used_mb for card in rivals)
            free.remove(chosen)


@given(nodes())
def test_impossible_is_only_what_an_empty_node_could_not_hold_either(node):
    capacity, _, waiting = node
    answers, _ = _decide(node)
    impossible = {x.job.job_id for x in answers if isinstance(x, Impossible)}
    for job in waiting:
        alone = admit([job], [], capacity)
        assert (job.job_id in impossible) == isinstance(alone[0], Impossible)


@given(nodes())
def test_room_is_never_more_than_what_is_left(node):
    capacity, held, waiting = node
    found = room([*held, *waiting], capacity)
    claims = [*held, *waiting]
    assert 0 <= found.cpu_slots <= max(0, capacity.cpu - sum(not job.wants_gpu for job in claims))
    assert len(found.gpus_free_mb) <= max(0, capacity.gpu - sum(job.wants_gpu for job in claims))
    busy = {card for job in held for card in job.gpus}
    free = sorted(card.free_mb for card in capacity.cards if card.id not in busy)
    for size in found.gpus_free_mb:
        free.remove(size)  # ValueError: room for a card that is not free


@given(nodes())
def test_what_room_offers_is_there_for_a_job_that_comes_last(node):
    capacity, held, waiting = node
    found = room([*held, *waiting], capacity)
    cpu = Job(job_id="new", state=State.ACKED, offered_ns=99, manifest=manifest())
    gpu = cpu._replace(manifest=manifest(gpu=True, vram_mb=max(found.gpus_free_mb, default=0)))
    for there, new in ((found.cpu_slots > 0, cpu), (bool(found.gpus_free_mb), gpu)):
        if there:
            line = [*waiting, new]
            assert new in [x.job for x in admit(line, [*held, *line], capacity) if isinstance(x, Grant)]


@given(nodes())
def test_granting_in_one_go_or_one_by_one_is_the_same(node):
    """The supervisor writes each grant down before the next; in between nothing changes but what it wrote."""
    capacity, held, waiting = node
    _, grants = _decide(node)
    now, step_by_step = [*held], []
    for job in sorted(waiting, key=_order):
        for x in admit([job], now, capacity):
            if isinstance(x, Grant):
                step_by_step.append(x)
                now.append(job._replace(state=State.PREP, gpus=x.gpus))
    assert step_by_step == grants
