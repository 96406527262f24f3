"""Draws configurations whose scheduling is of every kind."""

from hypothesis import strategies as st

from edgert.models.model_config import (
    Control,
    ControlInput,
    DynamicBatching,
    Ensemble,
    EnsembleStep,
    InitialState,
    InstanceGroup,
    ModelConfig,
    QueuePolicy,
    RateLimit,
    Resource,
    SequenceBatching,
    SequenceState,
    TensorConfig,
    Warmup,
    WarmupInput,
)
from edgert.models.sequence_checks import CORRID_DTYPES

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
uint32 = st.integers(0, 2**32 - 1)
uint64 = st.integers(0, 2**64 - 1)
sizes = st.lists(st.integers(1, 8), max_size=3).map(tuple)
dtypes = st.sampled_from(["float32", "int64", "object", "bfloat16", "bool"])
X = TensorConfig(name="x", dtype="float32", dims=(3,))
Y = TensorConfig(name="y", dtype="float32", dims=(-1,))

policies = st.builds(
    QueuePolicy,
    timeout_action=st.sampled_from(["REJECT", "DELAY"]),
    default_timeout_microseconds=uint64,
    allow_timeout_override=st.booleans(),
    max_queue_size=uint32,
)
batchings = st.builds(
    DynamicBatching,
    preferred_batch_size=sizes,
    max_queue_delay_microseconds=uint64,
    priority_levels=st.just(4),
    default_priority_level=st.integers(1, 4),
    default_queue_policy=policies,
    priority_queue_policy=st.dictionaries(st.integers(1, 4), policies, max_size=3),
)
false_true = st.one_of(
    st.tuples(st.just("int32"), *[st.integers(-(2**31), 2**31 - 1).map(float)] * 2),
    st.tuples(st.just("float32"), *[st.floats(width=32, allow_nan=False, allow_infinity=False)] * 2),
    st.just(("bool", 0.0, 1.0)),
)


@st.composite
def control_inputs(draw):
    drawn = []
    for kind in draw(st.lists(st.sampled_from(["START", "READY", "END", "CORRID"]), unique=True)):
        if kind == "CORRID":
            control = Control(kind=kind, dtype=draw(st.sampled_from(CORRID_DTYPES)))
        else:
            dtype, *values = draw(false_true)
            control = Control(kind=kind, dtype=dtype, false_true=tuple(values))
        drawn.append(ControlInput(name=kind.lower(), controls=(control,)))
    return tuple(drawn)


@st.composite
def states(draw):
    drawn = []
    for index in range(draw(st.integers(0, 2))):
        dtype, dims = draw(dtypes), tuple(draw(st.lists(st.integers(0, 9), max_size=3)))
        kind, file = draw(st.sampled_from([("zero", ""), ("file", "start.bin")]))
        initial = InitialState(name=draw(names), dtype=dtype, dims=dims, kind=kind, file=file)
        state = SequenceState(
            input_name=f"in{index}",
            output_name=f"out{index}",
            dtype=dtype,
            dims=dims,
            initial=draw(st.none() | st.just(initial)),
            use_same_buffer=draw(st.booleans()),
        )
        drawn.append(state)
    return tuple(drawn)


shared = {
    "max_sequence_idle_microseconds": st.integers(1, 2**64 - 1),
    "max_queue_delay_microseconds": uint64,
    "controls": control_inputs(),
    "states": states(),
}
sequences = st.builds(
    SequenceBatching,
    kind=st.just("direct"),
    minimum_slot_utilization=st.sampled_from([0.0, 0.125, 0.5, 1.0]),
    **shared,
) | st.builds(
    SequenceBatching,
    kind=st.just("oldest"),
    max_candidate_sequences=st.integers(1, 2**31 - 1),
    preferred_batch_size=sizes,
    preserve_ordering=st.booleans(),
    **shared,
)
limits = st.builds(
    RateLimit,
    resources=st.lists(
        st.builds(Resource, name=names, count=uint32, is_global=st.booleans()), max_size=2
    ).map(tuple),
    priority=uint32,
)
groups = st.builds(
    InstanceGroup,
    name=names,
    kind=st.sampled_from(["KIND_CPU", "KIND_MODEL"]),
    count=st.integers(1, 9),
    rate_limit=st.none() | limits,
)
warmups = st.builds(
    Warmup,
    name=names,
    batch_size=st.integers(1, 8),
    count=st.integers(1, 9),
    inputs=st.dictionaries(
        names.filter(lambda name: name not in "xy"),
        st.one_of(
            st.builds(WarmupInput, dtype=dtypes, dims=sizes, kind=st.sampled_from(["zero", "random"])),
            st.builds(WarmupInput, dtype=dtypes, dims=sizes, kind=st.just("file"), file=names),
        ),
        max_size=2,
    ),
)
served = st.one_of(
    st.fixed_dictionaries({"dynamic_batching": batchings, "is_decoupled": st.booleans()}),
    st.fixed_dictionaries({"sequence_batching": sequences, "is_decoupled": st.booleans()}),
    st.fixed_dictionaries({"uses_response_cache": st.booleans()}),
)


@st.composite
def engine_configs(draw):
    """Return the configuration of a model with an engine, whole but for its platform's defaults."""
    return ModelConfig(
        name="m",
        backend="python",
        max_batch_size=8,
        inputs=(X,),
        outputs=(Y,),
        instance_groups=tuple(draw(st.lists(groups, max_size=2))),
        warmups=tuple(draw(st.lists(warmups, max_size=2))),
        metric_tags=draw(st.dictionaries(names, names, max_size=2)),
        **draw(served),
    )


@st.composite
def ensemble_configs(draw):
    """Return an ensemble of 1 to 5 steps that hand one tensor on, in any order."""
    count = draw(st.integers(1, 5))
    tensors = ["x", *(f"t{index}" for index in range(1, count)), "y"]
    steps = [
        EnsembleStep(
            model=draw(names.filter(lambda name: name != "m")),
            version=draw(st.just(-1) | st.integers(1, 2**63 - 1)),
            inputs={draw(names): tensors[index]},
            outputs={draw(names): tensors[index + 1]},
        )
        for index in range(count)
    ]
    return ModelConfig(
        name="m",
        platform="ensemble",
        max_batch_size=draw(st.integers(0, 8)),
        inputs=(X,),
        outputs=(Y,),
        ensemble=Ensemble(tuple(draw(st.permutations(steps)))),
        uses_response_cache=draw(st.booleans()),
    )
