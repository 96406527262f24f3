"""Writes Q and DQ and INT8 weights into a model: what TensorRT 8 to 11 and onnxruntime read alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from edgert.calibrate.quantize.float_model import FloatModel
from edgert.calibrate.quantize.layers import Layer, weighted_layers
from edgert.calibrate.quantize.placement import Placement
from edgert.calibrate.quantize.weights import LEVELS, corrected_bias, quantize_weights
from edgert.errors import ModelError
from edgert.frames.result import Array


class Quantizer:
    """Makes INT8 models of one FP32 model. Weights are rounded once for all of them."""

    def __init__(self, model: FloatModel, channel_means: Mapping[str, Array]) -> None:
        """`channel_means`: (channels,) of each tensor that a layer reads; biases are corrected by them."""
        self._model = model
        self._means = channel_means
        self._rounded: dict[str, tuple[Array, Array]] = {}  # weights and scales, by the weights' name

    def quantize(self, placement: Placement, amax: Mapping[str, float]) -> onnx.ModelProto:
        """Return the model with INT8 where `placement` says; `amax[tensor]` becomes 127.

        Raises:
            ModelError: the graph that came out is not valid.
        """
        graph = self._model.graph()
        layers = {layer.name: layer for layer in weighted_layers(graph)}
        for name in placement.layers:
            self._correct_bias(layers[name])
        nodes, tensors = {node.name: node for node in graph.nodes}, graph.tensors()
        for tensor, edges in placement.edges.items():
            restored = _add_pair(graph, tensors[tensor], amax[tensor] / LEVELS)
            for edge in edges:
                nodes[edge.node].inputs[edge.index] = restored
        written: dict[str, gs.Variable] = {}
        for name in placement.layers:
            self._write_weights(graph, layers[name], written)
        return self._exported(graph)

    def _correct_bias(self, layer: Layer) -> None:
        means = self._means.get(layer.activation)
        if means is None or layer.bias is None:
            return
        quantized, scales = self._weights_of(layer)
        bias = corrected_bias(layer, quantized, scales, means)
        if bias is not None:
            layer.node.inputs[2] = gs.Constant(f"{layer.name}/bias", bias)

    def _write_weights(self, graph: gs.Graph, layer: Layer, written: dict[str, gs.Variable]) -> None:
        """Let the layer read INT8 weights; those that several layers share are written once."""
        name = str(layer.node.inputs[1].name)
        if name not in written:
            quantized, scales = self._weights_of(layer)
            inputs = [
                gs.Constant(f"{name}/int8", quantized),
                gs.Constant(f"{name}/scale", scales),
                gs.Constant(f"{name}/zero", np.zeros(scales.shape, np.int8)),
            ]
            axis = {"axis": layer.channel_axis}
            written[name] = _add_node(graph, "DequantizeLinear", name, inputs, np.float32, axis)
        layer.node.inputs[1] = written[name]

    def _weights_of(self, layer: Layer) -> tuple[Array, Array]:
        name = str(layer.node.inputs[1].name)
        if name not in self._rounded:
            self._rounded[name] = quantize_weights(layer.weights, layer.channel_axis)
        return self._rounded[name]

    def _exported(self, graph: gs.Graph) -> onnx.ModelProto:
        graph.cleanup().toposort()
        proto: onnx.ModelProto = gs.export_onnx(graph)
        proto.ir_version = self._model.proto.ir_version
        proto.producer_name = "edgert"
        try:
            onnx.checker.check_model(proto)
        except onnx.checker.ValidationError as error:
            raise ModelError(f"{self._model.file.path}: the quantized graph is not valid: {error}") from error
        return proto


def _add_pair(graph: gs.Graph, tensor: gs.Variable, scale: float) -> gs.Variable:
    """Append Q and DQ for a tensor; return what comes out."""
    name = tensor.name
    ends = [
        gs.Constant(f"{name}/scale", np.array(scale, np.float32)),
        gs.Constant(f"{name}/zero", np.zeros((), np.int8)),
    ]
    quantized = _add_node(graph, "QuantizeLinear", name, [tensor, *ends], np.int8)
    return _add_node(graph, "DequantizeLinear", name, [quantized, *ends], np.float32)


def _add_node(
    graph: gs.Graph,
    operator: str,
    name: str,
    inputs: list[gs.Tensor],
    dtype: type[np.generic],
    attributes: Mapping[str, int] | None = None,
) -> gs.Variable:
    output = gs.Variable(f"{name}/{operator}", np.dtype(dtype))
    node = gs.Node(operator, f"{name}/{operator}/node", dict(attributes or {}), inputs, [output])
    graph.nodes.append(node)
    return output
