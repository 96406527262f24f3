"""Writes Q and DQ and INT8 weights into a model: what TensorRT 8 to 11 and onnxruntime read alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from edgert.calibrate.quantize.draft import Draft, Fork, fork, names_in
from edgert.calibrate.quantize.float_model import FloatModel
from edgert.calibrate.quantize.layers import Layer, weighted_layers
from edgert.calibrate.quantize.placement import Placement
from edgert.calibrate.quantize.weights import LEVELS, corrected_bias, quantize_weights
from edgert.errors import ModelError
from edgert.frames.result import Array

_WeightsKey = tuple[str, int]  # the constant's name and the axis of the output channels


class Quantizer:
    """Makes INT8 models of one FP32 model, on any thread. Weights are rounded once for all of them."""

    def __init__(self, model: FloatModel, channel_means: Mapping[str, Array]) -> None:
        """`channel_means`: (channels,) of each tensor that a layer reads; biases are corrected by them."""
        self._model = model
        self._means = channel_means
        self._layers = {layer.name: layer for layer in weighted_layers(model.graph())}
        self._names = names_in(model.proto)
        self._bare = _without_weights(model.proto)
        self._rounded: dict[_WeightsKey, tuple[Array, Array]] = {}
        self._biases: dict[str, Array | None] = {}  # corrected, by layer

    def quantize(self, placement: Placement, amax: Mapping[str, float]) -> onnx.ModelProto:
        """Return the model with INT8 where `placement` says; `amax[tensor]` becomes 127.

        Raises:
            ModelError: weights are NaN or Inf, or the graph that came out is not valid.
        """
        return self._checked(self._quantized(self._model.proto, placement, amax))

    def fork(self, placements: Sequence[Placement], amax: Mapping[str, float]) -> Fork:
        """Return the models of several placements as one, to be run at once: it is not checked.

        Raises:
            ModelError: weights are NaN or Inf.
        """
        models = [self._quantized(self._bare, placement, amax) for placement in placements]
        return fork(self._model.proto, models, self._names)

    def _quantized(
        self, model: onnx.ModelProto, placement: Placement, amax: Mapping[str, float]
    ) -> onnx.ModelProto:
        draft = Draft(model, self._names)
        for tensor, edges in placement.edges.items():
            restored = _add_pair(draft, tensor, amax[tensor] / LEVELS)
            for edge in edges:
                draft.set_input(edge.node, edge.index, restored)
        written: dict[_WeightsKey, str] = {}
        for layer in map(self._layers.__getitem__, placement.layers):
            self._write_bias(draft, layer)
            self._write_weights(draft, layer, written)
        return draft.finished()

    def _write_bias(self, draft: Draft, layer: Layer) -> None:
        if layer.name not in self._biases:
            self._biases[layer.name] = self._corrected(layer)
        bias = self._biases[layer.name]
        if bias is not None:
            draft.set_input(layer.name, 2, draft.add_constant(f"{layer.name}/bias", bias))

    def _corrected(self, layer: Layer) -> Array | None:
        means = self._means.get(layer.activation)
        return None if means is None else corrected_bias(layer, *self._weights_of(layer), means)

    def _write_weights(self, draft: Draft, layer: Layer, written: dict[_WeightsKey, str]) -> None:
        """Let the layer read INT8 weights; those that several layers share are written once."""
        key = name, axis = _weights_key(layer)
        if key not in written:
            quantized, scales = self._weights_of(layer)
            inputs = [
                draft.add_constant(f"{name}/int8", quantized),
                draft.add_constant(f"{name}/scale", scales),
                draft.add_constant(f"{name}/zero", np.zeros(scales.shape, np.int8)),
            ]
            written[key] = draft.add_node("DequantizeLinear", inputs, axis=axis)
        draft.set_input(layer.name, 1, written[key])

    def _weights_of(self, layer: Layer) -> tuple[Array, Array]:
        key = _weights_key(layer)
        if key not in self._rounded:
            weights = layer.weights
            if not np.isfinite(weights).all():
                raise ModelError(
                    f"{self._model.file.path}: the weights of layer {layer.name} hold NaN or Inf. Train or "
                    "export the model again."
                )
            self._rounded[key] = quantize_weights(weights, layer.channel_axis)
        return self._rounded[key]

    def _checked(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        try:
            onnx.checker.check_model(proto)
        except onnx.checker.ValidationError as error:
            raise ModelError(f"{self._model.file.path}: the quantized graph is not valid: {error}") from error
        return proto


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.initializer[:]
    return bare


def _weights_key(layer: Layer) -> _WeightsKey:
    return str(layer.node.inputs[1].name), layer.channel_axis


def _add_pair(draft: Draft, tensor: str, scale: float) -> str:
    """Add Q and DQ for a tensor; return what comes out."""
    ends = [
        draft.add_constant(f"{tensor}/scale", np.array(scale, np.float32)),
        draft.add_constant(f"{tensor}/zero", np.zeros((), np.int8)),
    ]
    quantized = draft.add_node("QuantizeLinear", [tensor, *ends], after=tensor)
    return draft.add_node("DequantizeLinear", [quantized, *ends], after=tensor)
