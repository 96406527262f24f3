"""Ensembles that cannot be meant, or do not fit their models."""

import pytest

from edgert.errors import ModelError
from edgert.models.config_pbtxt import parse_config
from edgert.models.ensemble_checks import check_ensemble_models
from tests.fakes.refused_config import TENSORS, refuse


def step(inputs, outputs, model="b", more=""):
    pairs = [f'input_map {{ key: "{own}" value: "{tensor}" }}' for own, tensor in inputs.items()]
    pairs += [f'output_map {{ key: "{own}" value: "{tensor}" }}' for own, tensor in outputs.items()]
    return f'step {{ model_name: "{model}" {more} {" ".join(pairs)} }}\n'


def ensemble(*steps, head='platform: "ensemble"', tensors=TENSORS):
    """Return text in which the first step is on line 5."""
    return f"{head}\n{tensors}ensemble_scheduling {{\n{''.join(steps)}}}"


WHOLE = step({"x": "x"}, {"y": "y"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f'platform: "ensemble" {TENSORS}',
            "1: field platform: found 'ensemble', expected ensemble_scheduling",
        ),
        (ensemble(WHOLE, head=""), "1: field platform: found none, expected 'ensemble' beside"),
        (ensemble(WHOLE, head='platform: "tensorrt_plan"'), "1: field platform: found 'tensorrt_plan'"),
        (
            ensemble(WHOLE, head='platform: "ensemble" backend: "b"'),
            "1: field backend: given for an ensemble",
        ),
        (ensemble(WHOLE) + "\ninstance_group { }", "7: field instance_group: given for an ensemble"),
        (ensemble(WHOLE) + "\nmodel_warmup { }", "7: field model_warmup: given for an ensemble"),
        (ensemble(), "4: field ensemble_scheduling.step: not given, expected at least one step"),
        (
            ensemble(step({"x": "x"}, {"y": "y"}, "")),
            "5: field ensemble_scheduling.step[0].model_name: not given",
        ),
        (ensemble(step({"x": "x"}, {"y": "y"}, "a")), "step[0].model_name: found 'a', the ensemble itself"),
        (
            ensemble(step({"x": "x"}, {"y": "y"}, more="model_version: 0")),
            "5: field ensemble_scheduling.step[0].model_version: found 0, expected 1 or more, or -1",
        ),
        (ensemble(step({}, {"y": "y"})), "5: field ensemble_scheduling.step[0].input_map: not given"),
        (ensemble(step({"x": "x"}, {})), "5: field ensemble_scheduling.step[0].output_map: not given"),
        (
            ensemble(step({"x": ""}, {"y": "y"})),
            "step[0].input_map: found key 'x' and value '', expected names",
        ),
        (ensemble(WHOLE, tensors="\n\n"), "input: not given, expected it for an ensemble"),
        (
            ensemble(WHOLE, tensors=TENSORS.replace("data_type: TYPE_FP32 ", "")),
            "2: field input[0].data_type: not given",
        ),
        (
            ensemble(WHOLE, step({"x": "x"}, {"y": "y"})),
            "6: field ensemble_scheduling.step[1].output_map: found 'y' again, expected each tensor",
        ),
        (
            ensemble(step({"x": "x"}, {"y": "x"}), WHOLE),
            "5: field ensemble_scheduling.step[0].output_map: found 'x'",
        ),
        (
            ensemble(step({"x": "x", "z": "t"}, {"y": "y"})),
            "5: field ensemble_scheduling.step[0].input_map: 't' is no input and is made by no step",
        ),
        (ensemble(step({"x": "x"}, {"y": "t"})), "3: field output[0]: 'y' is made by no step"),
        (
            ensemble(WHOLE, tensors=TENSORS.replace("\n", ' input { name: "w" data_type: TYPE_FP32 }\n', 1)),
            "2: field input[1]: 'w' is used by no step",
        ),
        (
            ensemble(step({"x": "x"}, {"y": "y", "z": "t"})),
            "5: field ensemble_scheduling.step[0].output_map: 't' is no output and is used by no step",
        ),
        (
            ensemble(WHOLE, step({"x": "p"}, {"y": "q"}), step({"x": "q"}, {"y": "p"})),
            "6: field ensemble_scheduling.step[1].input_map: p never comes: step[1], step[2] wait for",
        ),
        (ensemble(WHOLE, step({"x": "p"}, {"y": "p"})), "step[1].input_map: p never comes: step[1] wait"),
    ],
)
def test_impossible_ensemble_is_told_with_line_and_field(text, message):
    said = refuse(text, "a")
    assert message in said
    assert said.startswith("config.pbtxt:")


def test_steps_may_stand_in_any_order():
    steps = parse_config(
        ensemble(step({"x": "t"}, {"y": "y"}), step({"x": "x"}, {"y": "t"}))
    ).config.ensemble.steps
    assert [(each.model, each.version, each.outputs) for each in steps] == [
        ("b", -1, {"y": "y"}),
        ("b", -1, {"y": "t"}),
    ]


def fit(ensemble_text, *, head='platform: "ensemble"', tensors=TENSORS, **models):
    config = parse_config(ensemble(ensemble_text, head=head, tensors=tensors), model="a").config
    parsed = {name: parse_config(text, model=name).config for name, text in models.items()}
    check_ensemble_models(config, parsed)


def test_models_that_fit_and_models_that_are_not_there_pass():
    fit(WHOLE, b=TENSORS)
    fit(WHOLE, b=TENSORS.replace("dims: 3", "dims: -1"))
    fit(WHOLE, b=f'{TENSORS} input {{ name: "more" optional: true }}')
    fit(WHOLE, c="")


def test_batch_axis_of_a_model_counts_as_a_side_of_an_ensemble_without_one():
    batched = "max_batch_size: 8 " + TENSORS
    fit(WHOLE, tensors=TENSORS.replace("dims: 3", "dims: [ -1, 3 ]"), b=batched)
    with pytest.raises(ModelError, match=r"float32 \[3\] in a\.x and float32 \[-1, 3\] in b\.x"):
        fit(WHOLE, b=batched)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (TENSORS.replace('"x"', '"z"'), "step[0].input_map: found key 'x', expected one of model 'b': z"),
        (TENSORS.replace('"y"', '"z"'), "step[0].output_map: found key 'y', expected one of model 'b': z"),
        (f'{TENSORS} input {{ name: "z" }}', "step[0].input_map: lacks z, which model 'b' needs"),
        (
            TENSORS.replace("TYPE_FP32", "TYPE_INT32", 1),
            "step[0].input_map: tensor 'x' is float32 [3] in a.x and int32 [3] in b.x",
        ),
        (
            TENSORS.replace("dims: 3", "dims: 4"),
            "step[0].input_map: tensor 'x' is float32 [3] in a.x and float32 [4] in b.x",
        ),
    ],
)
def test_model_that_does_not_fit_its_step_is_refused(model, message):
    with pytest.raises(ModelError) as caught:
        fit(WHOLE, b=model)
    assert f"config.pbtxt: field ensemble_scheduling.{message}" in str(caught.value)


def test_tensor_between_two_models_must_be_the_same_for_both():
    chain = step({"x": "x"}, {"y": "t"}) + step({"x": "t"}, {"y": "y"}, "c")
    with pytest.raises(
        ModelError, match=r"step\[1\]\.input_map: tensor 't' is float32 \[3\] in b\.y and int8"
    ):
        fit(chain, b=TENSORS, c=TENSORS.replace("TYPE_FP32", "TYPE_INT8", 1))


def test_ensemble_may_not_take_larger_batches_than_its_models():
    with pytest.raises(
        ModelError, match="max_batch_size: found 9, expected at most 8, which model 'b' takes"
    ):
        fit(WHOLE, head='platform: "ensemble" max_batch_size: 9', b="max_batch_size: 8 " + TENSORS)


def test_where_a_limit_may_be_the_default_that_is_said():
    whole = 'platform: "ensemble" max_batch_size: 8'
    with pytest.raises(ModelError) as caught:
        fit(WHOLE, head=whole, b="max_batch_size: 4 " + TENSORS)
    told = "expected at most 4, which model 'b' takes (4 is the default where its config.pbtxt gives none)"
    assert told in str(caught.value)
    with pytest.raises(ModelError, match=r"which model 'b' takes$"):
        fit(WHOLE, head=whole, b="max_batch_size: 5 " + TENSORS)
