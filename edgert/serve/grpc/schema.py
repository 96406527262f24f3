"""The messages of the Inference Server's grpc_service.proto and of grpc.health.v1, as a table.

Names and numbers are theirs, so bytes are compatible. A field's number is its place. `*` is repeated,
`<Type>` a map from text. A name with a dot is nested. What edgert never says is left out.
"""

from __future__ import annotations

INFERENCE = "inference"
HEALTH = "grpc.health.v1"

MESSAGES: dict[str, dict[str, str]] = {
    HEALTH: {
        "HealthCheckRequest": "string service",
        "HealthCheckResponse": "HealthCheckResponse.ServingStatus status",
    },
    INFERENCE: {
        "ServerLiveRequest": "",
        "ServerLiveResponse": "bool live",
        "ServerReadyRequest": "",
        "ServerReadyResponse": "bool ready",
        "ModelReadyRequest": "string name, string version",
        "ModelReadyResponse": "bool ready",
        "ServerMetadataRequest": "",
        "ServerMetadataResponse": "string name, string version, string* extensions",
        "ModelMetadataRequest": "string name, string version",
        "ModelMetadataResponse": "string name, string* versions, string platform,"
        " ModelMetadataResponse.TensorMetadata* inputs, ModelMetadataResponse.TensorMetadata* outputs",
        "ModelMetadataResponse.TensorMetadata": "string name, string datatype, int64* shape",
        "InferParameter": "bool bool_param, int64 int64_param, string string_param, double double_param,"
        " uint64 uint64_param",
        "InferTensorContents": "bool* bool_contents, int32* int_contents, int64* int64_contents,"
        " uint32* uint_contents, uint64* uint64_contents, float* fp32_contents, double* fp64_contents,"
        " bytes* bytes_contents",
        "ModelInferRequest": "string model_name, string model_version, string id,"
        " <InferParameter> parameters, ModelInferRequest.InferInputTensor* inputs,"
        " ModelInferRequest.InferRequestedOutputTensor* outputs, bytes* raw_input_contents",
        "ModelInferRequest.InferInputTensor": "string name, string datatype, int64* shape,"
        " <InferParameter> parameters, InferTensorContents contents",
        "ModelInferRequest.InferRequestedOutputTensor": "string name, <InferParameter> parameters",
        "ModelInferResponse": "string model_name, string model_version, string id,"
        " <InferParameter> parameters, ModelInferResponse.InferOutputTensor* outputs,"
        " bytes* raw_output_contents",
        "ModelInferResponse.InferOutputTensor": "string name, string datatype, int64* shape,"
        " <InferParameter> parameters, InferTensorContents contents",
        "ModelStreamInferResponse": "string error_message, ModelInferResponse infer_response",
        "ModelConfigRequest": "string name, string version",
        "ModelConfigResponse": "bytes config",  # a ModelConfig as edgert/models writes it
        "ModelStatisticsRequest": "string name, string version",
        "StatisticDuration": "uint64 count, uint64 ns",
        "InferStatistics": "StatisticDuration success, StatisticDuration fail, StatisticDuration queue,"
        " StatisticDuration compute_input, StatisticDuration compute_infer,"
        " StatisticDuration compute_output, StatisticDuration cache_hit, StatisticDuration cache_miss",
        "InferResponseStatistics": "StatisticDuration compute_infer, StatisticDuration compute_output,"
        " StatisticDuration success, StatisticDuration fail, StatisticDuration empty_response,"
        " StatisticDuration cancel",
        "InferBatchStatistics": "uint64 batch_size, StatisticDuration compute_input,"
        " StatisticDuration compute_infer, StatisticDuration compute_output",
        "MemoryUsage": "string type, int64 id, uint64 byte_size",
        "ModelStatistics": "string name, string version, uint64 last_inference, uint64 inference_count,"
        " uint64 execution_count, InferStatistics inference_stats, InferBatchStatistics* batch_stats,"
        " MemoryUsage* memory_usage, <InferResponseStatistics> response_stats",
        "ModelStatisticsResponse": "ModelStatistics* model_stats",
        "ModelRepositoryParameter": "bool bool_param, int64 int64_param, string string_param,"
        " bytes bytes_param",
        "RepositoryIndexRequest": "string repository_name, bool ready",
        "RepositoryIndexResponse": "RepositoryIndexResponse.ModelIndex* models",
        "RepositoryIndexResponse.ModelIndex": "string name, string version, string state, string reason",
        "RepositoryModelLoadRequest": "string repository_name, string model_name,"
        " <ModelRepositoryParameter> parameters",
        "RepositoryModelLoadResponse": "",
        "RepositoryModelUnloadRequest": "string repository_name, string model_name,"
        " <ModelRepositoryParameter> parameters",
        "RepositoryModelUnloadResponse": "",
        "SystemSharedMemoryStatusRequest": "string name",
        "SystemSharedMemoryStatusResponse": "<SystemSharedMemoryStatusResponse.RegionStatus> regions",
        "SystemSharedMemoryStatusResponse.RegionStatus": "string name, string key, uint64 offset,"
        " uint64 byte_size",
        "SystemSharedMemoryRegisterRequest": "string name, string key, uint64 offset, uint64 byte_size",
        "SystemSharedMemoryRegisterResponse": "",
        "SystemSharedMemoryUnregisterRequest": "string name",
        "SystemSharedMemoryUnregisterResponse": "",
        "CudaSharedMemoryStatusRequest": "string name",
        "CudaSharedMemoryStatusResponse": "<CudaSharedMemoryStatusResponse.RegionStatus> regions",
        "CudaSharedMemoryStatusResponse.RegionStatus": "string name, uint64 device_id, uint64 byte_size",
        "CudaSharedMemoryRegisterRequest": "string name, bytes raw_handle, int64 device_id, uint64 byte_size",
        "CudaSharedMemoryRegisterResponse": "",
        "CudaSharedMemoryUnregisterRequest": "string name",
        "CudaSharedMemoryUnregisterResponse": "",
        "TraceSettingRequest": "<TraceSettingRequest.SettingValue> settings, string model_name",
        "TraceSettingRequest.SettingValue": "string* value",
        "TraceSettingResponse": "<TraceSettingResponse.SettingValue> settings",
        "TraceSettingResponse.SettingValue": "string* value",
        "LogSettingsRequest": "<LogSettingsRequest.SettingValue> settings",
        "LogSettingsRequest.SettingValue": "bool bool_param, uint32 uint32_param, string string_param",
        "LogSettingsResponse": "<LogSettingsResponse.SettingValue> settings",
        "LogSettingsResponse.SettingValue": "bool bool_param, uint32 uint32_param, string string_param",
    },
}

# A value's number is its place.
ENUMS = {"HealthCheckResponse.ServingStatus": ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")}

# Messages of which one field at most is given.
CHOICES = {
    "InferParameter",
    "ModelRepositoryParameter",
    "LogSettingsRequest.SettingValue",
    "LogSettingsResponse.SettingValue",
}
CHOICE = "parameter_choice"
