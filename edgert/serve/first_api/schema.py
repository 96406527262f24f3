"""The messages of api.proto, request_status.proto and server_status.proto, as a table.

Names and numbers are the Inference Server's (package nvidia.inferenceserver), so bytes are compatible. `*` is
repeated, `<Key, Type>` a map. A name with a dot is nested. What edgert never says is left out.
"""

from __future__ import annotations

PACKAGE = "nvidia.inferenceserver"
CONFIG = "ModelConfig"  # as edgert/models writes it

MESSAGES: dict[str, str] = {
    "InferSharedMemory": "1 string name; 2 uint64 offset; 3 uint64 byte_size",
    "InferRequestHeader": "5 uint64 id; 6 uint32 flags; 4 uint64 correlation_id; 1 uint32 batch_size;"
    " 2 InferRequestHeader.Input* input; 3 InferRequestHeader.Output* output",
    # byte_size is what the user guide 0.5 has; requests come as text only, so its number is of no meaning.
    "InferRequestHeader.Input": "1 string name; 2 int64* dims; 3 uint64 batch_byte_size;"
    " 4 InferSharedMemory shared_memory; 100 uint64 byte_size",
    "InferRequestHeader.Output": "1 string name; 3 InferRequestHeader.Output.Class cls;"
    " 4 InferSharedMemory shared_memory; 100 uint64 byte_size",
    "InferRequestHeader.Output.Class": "1 uint32 count",
    "InferResponseHeader": "5 uint64 id; 1 string model_name; 2 int64 model_version; 3 uint32 batch_size;"
    " 4 InferResponseHeader.Output* output",
    "InferResponseHeader.Output": "1 string name; 2 InferResponseHeader.Output.Raw raw;"
    " 3 InferResponseHeader.Output.Classes* batch_classes",
    "InferResponseHeader.Output.Raw": "1 int64* dims; 2 uint64 batch_byte_size",
    "InferResponseHeader.Output.Class": "1 int32 idx; 2 float value; 3 string label",
    "InferResponseHeader.Output.Classes": "1 InferResponseHeader.Output.Class* cls",
    "RequestStatus": "1 RequestStatusCode code; 2 string msg; 3 string server_id; 4 uint64 request_id",
    "StatDuration": "1 uint64 count; 2 uint64 total_time_ns",
    "InferRequestStats": "1 StatDuration success; 2 StatDuration failed; 3 StatDuration compute;"
    " 4 StatDuration queue",
    "ModelReadyStateReason": "1 string message",
    "ModelVersionStatus": "1 ModelReadyState ready_state; 5 ModelReadyStateReason ready_state_reason;"
    " 2 <uint32, InferRequestStats> infer_stats; 3 uint64 model_execution_count;"
    " 4 uint64 model_inference_count; 6 uint64 last_inference_timestamp_milliseconds",
    "ModelStatus": "1 ModelConfig config; 2 <int64, ModelVersionStatus> version_status",
    "ServerStatus": "1 string id; 2 string version; 7 ServerReadyState ready_state; 3 uint64 uptime_ns;"
    " 4 <string, ModelStatus> model_status",
    "SharedMemoryRegion": "1 string name; 2 SharedMemoryRegion.SystemSharedMemory system_shared_memory;"
    " 5 uint64 byte_size",
    "SharedMemoryRegion.SystemSharedMemory": "1 string shared_memory_key; 2 uint64 offset",
    "SharedMemoryStatus": "2 SharedMemoryRegion* shared_memory_region",
    "ModelRepositoryIndex": "1 ModelRepositoryIndex.ModelEntry* models",
    "ModelRepositoryIndex.ModelEntry": "1 string name",
}

# A value's number is its place.
ENUMS = {
    "RequestStatusCode": (
        "INVALID",
        "SUCCESS",
        "UNKNOWN",
        "INTERNAL",
        "NOT_FOUND",
        "INVALID_ARG",
        "UNAVAILABLE",
        "UNSUPPORTED",
        "ALREADY_EXISTS",
    ),
    "ModelReadyState": (
        "MODEL_UNKNOWN",
        "MODEL_READY",
        "MODEL_UNAVAILABLE",
        "MODEL_LOADING",
        "MODEL_UNLOADING",
    ),
    "ServerReadyState": ("SERVER_INVALID", "SERVER_INITIALIZING", "SERVER_READY", "SERVER_EXITING"),
}
