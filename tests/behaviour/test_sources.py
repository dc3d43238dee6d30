"""What is left of a text that was read: simulated trainings whose share is known."""

from __future__ import annotations

import numpy as np
import pytest
from functional_self.behaviour.sources import reading, shrunk

FAMILIES = np.repeat(np.arange(8), 3)


def trainings(rng, kept, common=0.0, K=4, M=4, read=1.0, axis=0.0):
    """Profiles right after reading and after training, less those of the same seeds that read nothing.

    ``axis``: noise of a training along one axis that all trainings share, in place of noise of each item's own.
    """
    items = len(FAMILIES)
    text = (
        rng.normal(0, read, (K, items, 1))
        + rng.normal(0, read, (K, 8, 1))[:, FAMILIES]
        + common * rng.normal(0, 1, (1, items, 1))
    )
    along = axis * rng.normal(0, 1, (1, items, 1))
    noise = rng.normal(0, 0.7, (K, items, M)) + along * rng.normal(0, 1, (K, 1, M))
    later = rng.normal(0, 0.7, (K + 1, items, M)) + along * rng.normal(0, 1, (K + 1, 1, M))
    before = text + noise
    after = kept * (text + noise) + later[1:] - later[:1]  # a training also keeps its own seed's noise
    return before, after


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("axis", [0.0, 0.7])
def test_the_slope_that_was_kept_is_found_and_covered(kept, axis):
    rng = np.random.default_rng(0)
    found = [reading(*trainings(rng, kept, common=0.5, axis=axis), FAMILIES) for _ in range(150)]
    for name in ("kept", "followed"):
        estimates = [getattr(one, name) for one in found]
        assert np.median([e.value for e in estimates]) == pytest.approx(kept, abs=0.05), name
        assert np.mean([e.low <= kept <= e.high for e in estimates]) >= 0.92, name


@pytest.mark.parametrize("axis", [0.0, 0.7])
def test_behind_its_gate_nothing_kept_is_rarely_found_followed(axis):
    """A weak text, of which training keeps nothing: where R2 lets the slope through, it seldom excludes zero."""
    rng = np.random.default_rng(5)
    found = [reading(*trainings(rng, 0.0, read=0.25, axis=axis), FAMILIES) for _ in range(300)]
    assert np.mean([e.differed.low > 0 and e.followed.low > 0 for e in found]) <= 0.05


def test_noise_of_a_seed_is_no_effect_of_reading():
    """Nothing was read, and every training keeps what its seed did: products within a seed would call that an effect."""
    rng = np.random.default_rng(1)
    found = [reading(*trainings(rng, 1.0, read=0.0), FAMILIES).moved for _ in range(300)]
    assert np.mean([e.low > 0 for e in found]) <= 0.05
    assert abs(np.mean([e.value for e in found])) < 0.02


def test_an_effect_of_any_text_is_kept_and_not_followed():
    """Every text moves the items alike: the shuffled slope is as large as the own one, and nothing is one text's."""
    rng = np.random.default_rng(2)
    before, after = trainings(rng, 0.8, common=1.5, read=0.0)
    found = reading(before, after, FAMILIES)
    assert found.moved.low > 0 and found.kept.low > 0
    assert found.shuffled.value == pytest.approx(found.kept.value, abs=0.2)
    assert found.differed.low <= 0


def test_flipped_keys_change_nothing():
    rng = np.random.default_rng(3)
    before, after = trainings(rng, 0.5)
    y = rng.normal(size=(4, len(FAMILIES), 4, 2))
    signs = rng.choice([-1, 1], size=(1, len(FAMILIES), 1))
    for name, one in vars(reading(before, after, FAMILIES)).items():
        assert getattr(reading(before * signs, after * signs, FAMILIES), name).value == pytest.approx(one.value, abs=1e-9)
    flipped = y * signs[..., None]
    assert shrunk(flipped[0], flipped[1:], FAMILIES).value == pytest.approx(shrunk(y[0], y[1:], FAMILIES).value, abs=1e-9)


@pytest.mark.parametrize("share", ["F", "U", "V"])
def test_a_text_that_makes_organisms_alike_shrinks_the_share(share):
    """D, F and U are 1 where the neutral text was read; F and U .25 elsewhere: V from 2/3 to 1/3, F / T and U / T to 1/6."""
    rng, found = np.random.default_rng(4), []
    for _ in range(100):
        D = rng.normal(0, 1, (24, 1, 1))
        arms = [D + rng.normal(0, s, (24, 6, 1)) + rng.normal(0, s, (24, 6, 4)) for s in (1, 0.5, 0.5)]
        found.append(shrunk(arms[0], np.stack(arms[1:]), FAMILIES, share))
    truth = -1 / 3 if share == "V" else -1 / 6
    assert np.mean([e.value for e in found]) == pytest.approx(truth, abs=0.04)
    assert np.mean([e.low <= truth <= e.high for e in found]) >= 0.9
    assert np.mean([e.high < 0 for e in found]) > (0.2 if share == "F" else 0.8)


def test_too_few_seeds_or_texts_are_refused():
    with pytest.raises(ValueError, match="four seeds"):
        reading(np.zeros((3, 24, 3)), np.zeros((3, 24, 3)), FAMILIES)
    with pytest.raises(ValueError, match="two texts"):
        reading(np.zeros((1, 24, 4)), np.zeros((1, 24, 4)), FAMILIES)
    with pytest.raises(ValueError, match="at least four"):
        shrunk(np.zeros((24, 3, 2)), np.zeros((1, 24, 3, 2)), FAMILIES)
