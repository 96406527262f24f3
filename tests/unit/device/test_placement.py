"""Where slots and outputs lie, on the attributes of each board and on any others."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.device.host import HostDriver
from edgert.device.memory import MemoryKind
from edgert.device.placement import CHOICES, obstacle, plan_memory
from edgert.errors import ConfigError
from tests.fakes.boards import attributes_of, board_names, read_board

PAGEABLE, PINNED, MAPPED, REGISTERED, MANAGED, DEVICE = MemoryKind
STAGED, IN_PLACE = True, False

# What the table says of each: slots, outputs.
ONE_MODEL = {
    "h200": ((PINNED, STAGED), (PINNED, STAGED)),
    "xavier": ((MAPPED, IN_PLACE), (MAPPED, IN_PLACE)),
    "orin": ((MAPPED, IN_PLACE), (MAPPED, IN_PLACE)),
    "thor": ((REGISTERED, IN_PLACE), (REGISTERED, IN_PLACE)),
    "drive-orin-qnx": ((MAPPED, IN_PLACE), (MAPPED, IN_PLACE)),
}
SEVERAL_MODELS = ONE_MODEL | {
    "xavier": ((PINNED, STAGED), (MAPPED, IN_PLACE)),
    "orin": ((PINNED, STAGED), (MAPPED, IN_PLACE)),
    "drive-orin-qnx": ((PINNED, STAGED), (MAPPED, IN_PLACE)),
}
FLAGS = (
    "INTEGRATED",
    "CAN_MAP_HOST_MEMORY",
    "CONCURRENT_MANAGED_ACCESS",
    "PAGEABLE_MEMORY_ACCESS",
    "PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES",
    "HOST_REGISTER_SUPPORTED",
    "MANAGED_MEMORY",
    "MEMORY_POOLS_SUPPORTED",
)
SETS = st.fixed_dictionaries(
    {"INTEGRATED": st.sampled_from([0, 1])},
    optional={name: st.sampled_from([0, 1]) for name in FLAGS[1:]} | {"os": st.just("qnx")},
)


def places(plan):
    return (plan.slots, plan.is_staged), (plan.outputs, plan.outputs_are_staged)


def can_hold(attributes, kind):
    """Say from the attributes alone whether the device reads this kind in place."""
    takes_registered = attributes.get("HOST_REGISTER_SUPPORTED", attributes.get("os") != "qnx")
    return {
        MAPPED: attributes.get("CAN_MAP_HOST_MEMORY", 0),
        REGISTERED: takes_registered and attributes.get("CAN_MAP_HOST_MEMORY", 0),
        PAGEABLE: attributes.get("PAGEABLE_MEMORY_ACCESS", 0),
        MANAGED: attributes.get("MANAGED_MEMORY", 0) and attributes.get("CONCURRENT_MANAGED_ACCESS", 0),
    }[kind]


@pytest.mark.parametrize("board", board_names())
def test_each_board_is_planned_as_the_table_says(board):
    attributes = attributes_of(board)
    assert places(plan_memory(attributes)) == ONE_MODEL[board]
    assert places(plan_memory(attributes, is_read_often=True)) == SEVERAL_MODELS[board]


@pytest.mark.parametrize("board", board_names())
def test_each_board_says_where_its_attributes_are_from(board):
    facts = read_board(board)
    assert facts["provenance"] in ("recorded", "written from documentation")
    assert facts["source"]
    assert bool(facts["unconfirmed"]) == (facts["provenance"] != "recorded")


@pytest.mark.parametrize("board", board_names())
def test_the_reason_names_an_attribute_with_the_board_s_value(board):
    attributes = attributes_of(board)
    for name, value in re.findall(r"([A-Z_]{6,}) (\d)", plan_memory(attributes).reason):
        assert attributes[name] == int(value)


def test_the_host_keeps_all_in_pageable_memory_and_copies_nothing():
    plan = plan_memory(HostDriver().attributes())
    assert places(plan) == ((PAGEABLE, IN_PLACE), (PAGEABLE, IN_PLACE))
    assert plan.choice == "pageable"


def test_names_decide_nothing():
    named = {**attributes_of("orin"), "name": "NVIDIA Thor", "compute_capability": "11.0"}
    assert plan_memory(named) == plan_memory(attributes_of("orin"))


def test_device_that_shares_memory_but_maps_none_is_staged():
    plan = plan_memory({**attributes_of("orin"), "CAN_MAP_HOST_MEMORY": 0})
    assert places(plan) == ((PINNED, STAGED), (PINNED, STAGED))
    assert "CAN_MAP_HOST_MEMORY 0" in plan.reason


def test_thor_without_registration_reads_pageable_memory_through_the_host_s_page_tables():
    thor = {**attributes_of("thor"), "HOST_REGISTER_SUPPORTED": 0}
    assert places(plan_memory(thor)) == ((PAGEABLE, IN_PLACE), (PAGEABLE, IN_PLACE))
    apart = {**thor, "PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES": 0}
    assert places(plan_memory(apart)) == ((MAPPED, IN_PLACE), (MAPPED, IN_PLACE))


def test_discrete_gpu_is_staged_even_where_it_reads_all_memory():
    can_all = dict.fromkeys(FLAGS, 1) | {"INTEGRATED": 0}
    assert plan_memory(can_all).choice == "staged"


@pytest.mark.parametrize("choice", CHOICES)
def test_what_is_forced_is_planned_where_the_device_can(choice):
    plan = plan_memory(dict.fromkeys(FLAGS, 1), forced=choice)
    assert places(plan) == (CHOICES[choice], CHOICES[choice])
    assert plan.choice == choice
    assert plan.reason == f'memory = "{choice}" is set'


@pytest.mark.parametrize(
    ("board", "choice", "attribute"),
    [
        ("h200", "pageable", "PAGEABLE_MEMORY_ACCESS is 0"),
        ("xavier", "managed", "CONCURRENT_MANAGED_ACCESS is 0"),
        ("orin", "managed", "CONCURRENT_MANAGED_ACCESS is 0"),
        ("orin", "pageable", "PAGEABLE_MEMORY_ACCESS is 0"),
        ("drive-orin-qnx", "registered", "HOST_REGISTER_SUPPORTED is 0"),
        ("drive-orin-qnx", "managed", "MANAGED_MEMORY is not stated"),
    ],
)
def test_what_the_device_cannot_do_is_refused_by_the_attribute_s_name(board, choice, attribute):
    with pytest.raises(ConfigError, match=rf'memory = "{choice}": {attribute} on this device: .*doctor'):
        plan_memory(attributes_of(board), forced=choice)


@pytest.mark.parametrize("choice", ["mapped", "registered", "managed", "staged"])
def test_the_host_can_only_keep_pageable_memory(choice):
    with pytest.raises(ConfigError, match="INTEGRATED is not stated: the CPU is the device"):
        plan_memory(HostDriver().attributes(), forced=choice)
    assert plan_memory(HostDriver().attributes(), forced="pageable").slots is PAGEABLE


@pytest.mark.parametrize("attributes", [{"INTEGRATED": 0}, {}])
def test_a_choice_that_there_is_not_is_refused_with_those_that_there_are(attributes):
    with pytest.raises(ConfigError, match=r"memory = 'pinned': expected one of 'mapped', .*'staged'"):
        plan_memory(attributes, forced="pinned")


@given(SETS, st.booleans())
def test_no_plan_asks_for_what_the_device_cannot_do(attributes, is_read_often):
    plan = plan_memory(attributes, is_read_often=is_read_often)
    for kind, is_staged in places(plan):
        assert is_staged == (kind is PINNED)
        assert is_staged or can_hold(attributes, kind)
    assert MANAGED not in (plan.slots, plan.outputs)  # only where a person asks for it
    assert plan.is_staged or attributes["INTEGRATED"]


@given(SETS, st.sampled_from(sorted(CHOICES)))
def test_what_is_forced_is_planned_or_refused_never_replaced(attributes, choice):
    kind, is_staged = CHOICES[choice]
    possible = is_staged or bool(can_hold(attributes, kind))
    assert bool(obstacle(attributes, choice)) != possible
    if possible:
        assert places(plan_memory(attributes, forced=choice)) == (CHOICES[choice], CHOICES[choice])
    else:
        with pytest.raises(ConfigError, match=r"[A-Z_]+ is (0|not stated) on this device"):
            plan_memory(attributes, forced=choice)
