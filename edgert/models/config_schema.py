"""The Inference Server's model_config.proto as a table.

Names, numbers and order are those of its package `inference`, so text, bytes and JSON are compatible with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from edgert.errors import ModelError
from edgert.models.config_values import ENUMS, SCALARS

Locate = Callable[[str], str]  # a field's path -> where its file gives it
Label = Literal["one", "many", "map"]


class Field(msgspec.Struct, frozen=True):
    """One field of a message. `type` is a scalar, an enum or a message."""

    number: int
    type: str
    label: Label = "one"
    key: str = "string"  # of a map
    choice: str = ""  # of the fields with the same choice only one may be given
    is_followed: bool = True  # what it asks for is done, at least for requests

    @property
    def members(self) -> Fields | None:
        """The fields of the message it holds; None for a scalar."""
        if self.label == "map":
            return {"key": Field(1, self.key), "value": Field(2, self.type)}
        return MESSAGES.get(self.type)

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.members is not None:
            return "a message in { }"
        return SCALARS.get(self.type) or f"one of {', '.join(ENUMS[self.type])}"


Fields = dict[str, Field]


def _many(number: int, kind: str) -> Field:
    return Field(number, kind, "many")


def _map(number: int, kind: str, key: str = "string") -> Field:
    return Field(number, kind, "map", key)


def _one_of(choice: str, number: int, kind: str) -> Field:
    return Field(number, kind, choice=choice)


def _ignored(number: int, kind: str, label: Label = "one") -> Field:
    return Field(number, kind, label, is_followed=False)


MESSAGES: dict[str, Fields] = {
    "ModelConfig": {
        "name": Field(1, "string"),
        "platform": Field(2, "string"),
        "backend": Field(17, "string"),
        "runtime": _ignored(25, "string"),
        "version_policy": Field(3, "ModelVersionPolicy"),
        "max_batch_size": Field(4, "int32"),
        "input": _many(5, "ModelInput"),
        "output": _many(6, "ModelOutput"),
        "batch_input": _ignored(20, "BatchInput", "many"),
        "batch_output": _ignored(21, "BatchOutput", "many"),
        "optimization": Field(12, "ModelOptimizationPolicy"),
        "dynamic_batching": _one_of("scheduling_choice", 11, "ModelDynamicBatching"),
        "sequence_batching": _one_of("scheduling_choice", 13, "ModelSequenceBatching"),
        "ensemble_scheduling": _one_of("scheduling_choice", 15, "ModelEnsembling"),
        "instance_group": _many(7, "ModelInstanceGroup"),
        "default_model_filename": Field(8, "string"),
        "cc_model_filenames": _map(9, "string"),
        "metric_tags": _map(10, "string"),
        "parameters": _map(14, "ModelParameter"),
        "model_warmup": _many(16, "ModelWarmup"),
        "model_operations": _ignored(18, "ModelOperations"),
        "model_transaction_policy": Field(19, "ModelTransactionPolicy"),
        "model_repository_agents": _ignored(23, "ModelRepositoryAgents"),
        "response_cache": Field(24, "ModelResponseCache"),
        "model_metrics": _ignored(26, "ModelMetrics"),
    },
    "ModelInput": {
        "name": Field(1, "string"),
        "data_type": Field(2, "DataType"),
        "format": Field(3, "Format"),
        "dims": _many(4, "int64"),
        "reshape": Field(5, "ModelTensorReshape"),
        "is_shape_tensor": Field(6, "bool"),
        "allow_ragged_batch": Field(7, "bool"),
        "optional": Field(8, "bool"),
        "is_non_linear_format_io": _ignored(9, "bool"),
    },
    "ModelOutput": {
        "name": Field(1, "string"),
        "data_type": Field(2, "DataType"),
        "dims": _many(3, "int64"),
        "reshape": Field(5, "ModelTensorReshape"),
        "label_filename": Field(4, "string"),
        "is_shape_tensor": Field(6, "bool"),
        "is_non_linear_format_io": _ignored(7, "bool"),
    },
    "ModelTensorReshape": {"shape": _many(1, "int64")},
    "BatchInput": {
        "kind": Field(1, "BatchInputKind"),
        "target_name": _many(2, "string"),
        "data_type": Field(3, "DataType"),
        "source_input": _many(4, "string"),
    },
    "BatchOutput": {
        "target_name": _many(1, "string"),
        "kind": Field(2, "BatchOutputKind"),
        "source_input": _many(3, "string"),
    },
    "ModelVersionPolicy": {
        "latest": _one_of("policy_choice", 1, "Latest"),
        "all": _one_of("policy_choice", 2, "All"),
        "specific": _one_of("policy_choice", 3, "Specific"),
    },
    "Latest": {"num_versions": Field(1, "uint32")},
    "All": {},
    "Specific": {"versions": _many(1, "int64")},
    "ModelOptimizationPolicy": {
        "graph": _ignored(1, "Graph"),
        "priority": _ignored(2, "ModelPriority"),
        "cuda": _ignored(3, "Cuda"),
        "execution_accelerators": _ignored(4, "ExecutionAccelerators"),
        "input_pinned_memory": _ignored(5, "PinnedMemoryBuffer"),
        "output_pinned_memory": _ignored(6, "PinnedMemoryBuffer"),
        "gather_kernel_buffer_threshold": _ignored(7, "uint32"),
        "eager_batching": _ignored(8, "bool"),
    },
    "Graph": {"level": Field(1, "int32")},
    "Cuda": {
        "graphs": Field(1, "bool"),
        "busy_wait_events": Field(2, "bool"),
        "graph_spec": _many(3, "GraphSpec"),
        "output_copy_stream": Field(4, "bool"),
    },
    "GraphSpec": {
        "batch_size": Field(1, "int32"),
        "input": _map(2, "Shape"),
        "graph_lower_bound": Field(3, "LowerBound"),
    },
    "LowerBound": {"batch_size": Field(1, "int32"), "input": _map(2, "Shape")},
    "Shape": {"dim": _many(1, "int64")},
    "ExecutionAccelerators": {
        "gpu_execution_accelerator": _many(1, "Accelerator"),
        "cpu_execution_accelerator": _many(2, "Accelerator"),
    },
    "Accelerator": {"name": Field(1, "string"), "parameters": _map(2, "string")},
    "PinnedMemoryBuffer": {"enable": Field(1, "bool")},
    "ModelDynamicBatching": {
        "preferred_batch_size": _many(1, "int32"),
        "max_queue_delay_microseconds": Field(2, "uint64"),
        "preserve_ordering": Field(3, "bool"),
        "priority_levels": Field(4, "uint64"),
        "default_priority_level": Field(5, "uint64"),
        "default_queue_policy": Field(6, "ModelQueuePolicy"),
        "priority_queue_policy": _map(7, "ModelQueuePolicy", "uint64"),
    },
    "ModelQueuePolicy": {
        "timeout_action": Field(1, "TimeoutAction"),
        "default_timeout_microseconds": Field(2, "uint64"),
        "allow_timeout_override": Field(3, "bool"),
        "max_queue_size": Field(4, "uint32"),
    },
    "ModelSequenceBatching": {
        "direct": _one_of("strategy_choice", 3, "StrategyDirect"),
        "oldest": _one_of("strategy_choice", 4, "StrategyOldest"),
        "max_sequence_idle_microseconds": Field(1, "uint64"),
        "control_input": _many(2, "ControlInput"),
        "state": _many(5, "State"),
        "iterative_sequence": _ignored(6, "bool"),
    },
    "StrategyDirect": {
        "max_queue_delay_microseconds": Field(1, "uint64"),
        "minimum_slot_utilization": Field(2, "float"),
    },
    "StrategyOldest": {
        "max_candidate_sequences": Field(1, "int32"),
        "preferred_batch_size": _many(2, "int32"),
        "max_queue_delay_microseconds": Field(3, "uint64"),
        "preserve_ordering": Field(4, "bool"),
    },
    "ControlInput": {"name": Field(1, "string"), "control": _many(2, "Control")},
    "Control": {
        "kind": Field(1, "ControlKind"),
        "int32_false_true": _many(2, "int32"),
        "fp32_false_true": _many(3, "float"),
        "bool_false_true": _many(5, "bool"),
        "data_type": Field(4, "DataType"),
    },
    "State": {
        "input_name": Field(1, "string"),
        "output_name": Field(2, "string"),
        "data_type": Field(3, "DataType"),
        "dims": _many(4, "int64"),
        "initial_state": _many(5, "InitialState"),
        "use_same_buffer_for_input_output": Field(6, "bool"),
        "use_growable_memory": _ignored(7, "bool"),
    },
    "InitialState": {
        "data_type": Field(1, "DataType"),
        "dims": _many(2, "int64"),
        "zero_data": _one_of("state_data", 3, "bool"),
        "data_file": _one_of("state_data", 4, "string"),
        "name": Field(5, "string"),
    },
    "ModelEnsembling": {"step": _many(1, "Step")},
    "Step": {
        "model_name": Field(1, "string"),
        "model_version": Field(2, "int64"),
        "input_map": _map(3, "string"),
        "output_map": _map(4, "string"),
        "model_namespace": _ignored(5, "string"),
    },
    "ModelInstanceGroup": {
        "name": Field(1, "string"),
        "kind": Field(4, "Kind"),
        "count": Field(2, "int32"),
        "rate_limiter": Field(6, "ModelRateLimiter"),
        "gpus": _many(3, "int32"),
        "secondary_devices": _many(8, "SecondaryDevice"),
        "profile": _many(5, "string"),
        "passive": _ignored(7, "bool"),
        "host_policy": _ignored(9, "string"),
    },
    "ModelRateLimiter": {"resources": _many(1, "Resource"), "priority": Field(2, "uint32")},
    "Resource": {"name": Field(1, "string"), "global": Field(2, "bool"), "count": Field(3, "uint32")},
    "SecondaryDevice": {"kind": Field(1, "SecondaryDeviceKind"), "device_id": Field(2, "int64")},
    "ModelParameter": {"string_value": Field(1, "string")},
    "ModelWarmup": {
        "name": Field(1, "string"),
        "batch_size": Field(2, "uint32"),
        "inputs": _map(3, "WarmupInput"),
        "count": Field(4, "uint32"),
    },
    "WarmupInput": {
        "data_type": Field(1, "DataType"),
        "dims": _many(2, "int64"),
        "zero_data": _one_of("input_data_type", 3, "bool"),
        "random_data": _one_of("input_data_type", 4, "bool"),
        "input_data_file": _one_of("input_data_type", 5, "string"),
    },
    "ModelOperations": {"op_library_filename": _many(1, "string")},
    "ModelTransactionPolicy": {"decoupled": Field(1, "bool")},
    "ModelRepositoryAgents": {"agents": _many(1, "Agent")},
    "Agent": {"name": Field(1, "string"), "parameters": _map(2, "string")},
    "ModelResponseCache": {"enable": Field(1, "bool")},
    "ModelMetrics": {"metric_control": _many(1, "MetricControl")},
    "MetricControl": {
        "metric_identifier": Field(1, "MetricIdentifier"),
        "histogram_options": _one_of("metric_options", 2, "HistogramOptions"),
    },
    "MetricIdentifier": {"family": Field(1, "string")},
    "HistogramOptions": {"buckets": _many(1, "double")},
}


def problem(where: str, path: str, what: str) -> ModelError:
    """Return the error for one field; `where` is `file:line`, or the file."""
    return ModelError(f"{where}: field {path}: {what}" if path else f"{where}: {what}")
