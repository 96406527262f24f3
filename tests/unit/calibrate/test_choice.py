from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from edgert.calibrate.sample.choice import POOL_FACTOR, FarthestPoint, Reservoir, make_choice
from edgert.calibrate.sample.descriptor import describe
from tests.unit.calibrate.sample_frames import picture

NOTHING = np.zeros((2, 2, 3), np.uint8)


def run(choice, pictures):
    """Return place → number of the picture that is there at the end."""
    held = {}
    for number, image in enumerate(pictures):
        place = choice.place_for(image, "bgr8")
        if place is not None:
            held[place] = number
    return held


def plain_algorithm_r(frames, capacity, seed):
    """Vitter 1985, algorithm R, written down plainly."""
    random, kept = np.random.default_rng(seed), {}
    for number in range(frames):
        if number < capacity:
            kept[number] = number
        elif (place := int(random.integers(number + 1))) < capacity:
            kept[place] = number
    return kept


def grey(level):
    return np.full((16, 16, 3), level, np.uint8)


@pytest.mark.parametrize("frames", [0, 1, 4, 5, 6, 500])
def test_a_reservoir_is_algorithm_r(frames):
    assert run(Reservoir(5, 3), [NOTHING] * frames) == plain_algorithm_r(frames, 5, 3)


def test_each_frame_has_the_same_chance_in_a_reservoir():
    times = Counter(
        number for seed in range(4000) for number in run(Reservoir(5, seed), [NOTHING] * 20).values()
    )
    assert sum(times.values()) == 4000 * 5
    assert max(abs(times[number] - 1000) for number in range(20)) < 5 * np.sqrt(4000 * 0.25 * 0.75)


def test_a_part_of_a_reservoir_is_not_its_oldest_frames():
    firsts = Counter()
    for seed in range(1000):
        choice = Reservoir(4, seed)
        run(choice, [NOTHING] * 4)
        firsts.update(choice.chosen(1))
    assert min(firsts[place] for place in range(4)) > 180


@pytest.mark.parametrize("kind", ["reservoir", "farthest"])
def test_the_same_seed_gives_the_same_choice_and_another_one_another(kind):
    pictures = [picture(number) for number in range(60)]

    def chosen(seed):
        choice = make_choice(kind, 6, seed)
        held = run(choice, pictures)
        return [held[place] for place in choice.chosen(6)]

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)
    assert len(set(chosen(1))) == 6


@pytest.mark.parametrize("kind", ["reservoir", "farthest"])
def test_nothing_is_chosen_of_nothing(kind):
    assert list(make_choice(kind, 3, 0).chosen(3)) == []


def test_what_is_rare_is_chosen_although_most_of_the_stream_is_alike():
    random = np.random.default_rng(5)
    pictures = [np.clip(grey(100) + random.integers(0, 3, (16, 16, 3)), 0, 255) for _ in range(400)]
    pictures = [image.astype(np.uint8) for image in pictures]
    pictures[50], pictures[333] = grey(0), grey(255)
    choice = FarthestPoint(3, 0)
    held = run(choice, pictures)
    chosen = {held[place] for place in choice.chosen(3)}
    assert {50, 333} < chosen
    assert len(held) <= 3 * POOL_FACTOR


def test_a_picture_that_comes_again_is_kept_once():
    choice = FarthestPoint(4, 0)
    held = run(choice, [grey(9)] * 50 + [grey(10)] + [grey(9)] * 50)
    assert sorted(held.values()) == [0, 50]
    assert len(choice.chosen(4)) == 2


def test_the_greedy_choice_is_that_of_brute_force():
    pictures = [picture(number) for number in range(12)]
    choice = FarthestPoint(6, 11)
    run(choice, pictures)
    order = list(choice.chosen(12))
    descriptors = np.array([describe(image, "bgr8") for image in pictures])
    distances = np.linalg.norm(descriptors[:, None] - descriptors[None], axis=2)
    for step in range(1, 12):
        to_nearest = distances[:, order[:step]].min(axis=1)
        assert to_nearest[order[step]] == pytest.approx(to_nearest.max(), abs=1e-6)
    assert sorted(order) == list(range(12))


def test_a_full_pool_never_grows_more_alike():
    """The least distance between two that are kept only grows; so the nearest ones are known rightly."""
    choice, least = FarthestPoint(5, 0), 0.0
    for number in range(300):
        choice.place_for(picture(number, 1 + number % 3, 2), "bgr8")
        if number < 5 * POOL_FACTOR:
            continue
        kept = choice._descriptors
        distances = ((kept[:, None] - kept[None]) ** 2).sum(axis=2)
        np.fill_diagonal(distances, np.inf)
        np.testing.assert_allclose(choice._nearest, distances.min(axis=1), rtol=1e-4)
        assert distances.min() >= least - 1e-6
        least = distances.min()
    assert least > 0.01
