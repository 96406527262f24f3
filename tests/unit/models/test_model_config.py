"""What the plain data of a configuration can tell by itself."""

import pytest

from edgert.models.model_config import TensorConfig, VersionPolicy


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        (VersionPolicy(), (12,)),
        (VersionPolicy("latest", 2), (3, 12)),
        (VersionPolicy("latest", 9), (1, 3, 12)),
        (VersionPolicy("all"), (1, 3, 12)),
        (VersionPolicy("specific", versions=(3, 1, 3)), (1, 3)),
        (VersionPolicy("specific", versions=(2,)), (2,)),
    ],
)
def test_policy_chooses_by_number_ascending(policy, chosen):
    assert policy.choose([12, 1, 3]) == chosen


def test_policy_chooses_nothing_from_nothing():
    assert VersionPolicy().choose([]) == ()


def test_engine_sees_the_reshape_even_if_it_is_empty():
    assert TensorConfig(dims=(1,)).engine_dims == (1,)
    assert TensorConfig(dims=(1,), reshape=()).engine_dims == ()
