"""Sum and difference of two tensors, for the Inference Server's python backend."""

import json

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """What that backend looks for."""

    def initialize(self, args):
        """Read the outputs' types from the configuration."""
        config = json.loads(args["model_config"])
        self._dtypes = {
            name: pb_utils.triton_string_to_numpy(
                pb_utils.get_output_config_by_name(config, name)["data_type"]
            )
            for name in ("SUM", "DIFFERENCE")
        }

    def execute(self, requests):
        """Return a response for each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        one, two = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("INPUT0", "INPUT1")
        )
        if (one < 0).any():
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("INPUT0 must not be negative"))
        results = {"SUM": one + two, "DIFFERENCE": one - two}
        tensors = [pb_utils.Tensor(name, results[name].astype(self._dtypes[name])) for name in results]
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def finalize(self):
        """Say goodbye."""
        print("add_sub ends")
