"""The files beside a version that a new model needs: config.pbtxt, edgert.toml, labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from edgert.build.install import Draft
from edgert.errors import ConfigError, ModelError
from edgert.models.files import confined
from edgert.models.model_config import DTYPE_OF_DATA_TYPE
from edgert.models.runtime import FAMILY_OF_RUNTIME, TENSORRT
from edgert.models.store import CONFIG_FILE, MAX_LABELS_BYTES, SETTINGS_FILE, ModelEntry
from edgert.models.tensor_spec import TensorSpec

_DATA_TYPES = {dtype: data_type for data_type, dtype in DTYPE_OF_DATA_TYPE.items() if dtype}
_SETTINGS = """\
# Written by `edgert build`. What is still to be said: how pictures become tensors, what the outputs mean.
[engine]
runtime = "{runtime}"

# [prepare]
# fit = "letterbox"   # or stretch, crop, none
# colour = "rgb"
# mean = 0.0          # value = (pixel - mean) * scale
# scale = 1.0
#
# [decode]
# kind = "tensors"    # or ssd, centerface, yolo, classify
#
# [labels]
# file = "labels.txt"
"""


class EngineFacts(msgspec.Struct, frozen=True):
    """What config.pbtxt states of an engine."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int  # 0: no variable batch axis

    @property
    def batches(self) -> bool:
        """The first axis of every tensor is a variable batch axis."""
        return all(spec.shape[:1] == (-1,) for spec in (*self.inputs, *self.outputs))


def describe(draft: Draft, facts: EngineFacts, runtime: str, like: ModelEntry | None) -> tuple[str, ...]:
    """Write what the model's folder lacks, never over what is there; return the names of what was written.

    Settings and labels are taken from the model `like`, if one is given.

    Raises:
        ConfigError: the other model's settings are for another runtime.
        ModelError: its label files cannot be read.
    """
    labels = _label_files(like) if like else {}
    name = draft.model_folder.name
    contents = {
        **labels,
        CONFIG_FILE: config_text(
            name, facts, _label_names(like), FAMILY_OF_RUNTIME[runtime].platform
        ).encode(),
        SETTINGS_FILE: _settings_text(runtime, like).encode(),
    }
    return tuple(file for file, content in contents.items() if draft.add_beside(file, content))


def config_text(
    name: str, facts: EngineFacts, label_names: Mapping[str, str], platform: str = TENSORRT.platform
) -> str:
    """Return a config.pbtxt; `label_names` are files by output."""
    max_batch = facts.max_batch if facts.batches else 0
    first = 1 if max_batch else 0
    lines = [
        f"name: {json.dumps(name)}",
        f"platform: {json.dumps(platform)}",
        f"max_batch_size: {max_batch}",
        *_tensors("input", facts.inputs, first, {}),
        *_tensors("output", facts.outputs, first, label_names),
        "instance_group [ { count: 1 } ]",
        *(["dynamic_batching { }"] if max_batch > 1 else []),
    ]
    return "\n".join(lines) + "\n"


def _tensors(
    kind: str, specs: Sequence[TensorSpec], first: int, label_names: Mapping[str, str]
) -> Iterable[str]:
    for spec in specs:
        if spec.dtype not in _DATA_TYPES:
            raise ModelError(f"Tensor {spec.name!r} is {spec.dtype}, which config.pbtxt has no name for.")
        dims = ", ".join(map(str, spec.shape[first:]))
        label = f" label_filename: {json.dumps(label_names[spec.name])}" if spec.name in label_names else ""
        quoted = json.dumps(spec.name)
        yield f"{kind} {{ name: {quoted} data_type: {_DATA_TYPES[spec.dtype]} dims: [ {dims} ]{label} }}"


def _settings_text(runtime: str, like: ModelEntry | None) -> str:
    if like is None or not like.settings.path.is_file():
        return _SETTINGS.format(runtime=runtime)
    text = like.settings.path.read_text("utf-8")
    engine = like.settings.tree.get("engine")
    if engine is None:  # appended, as a table at the top would swallow keys that stand before the first table
        return f'{text.rstrip()}\n\n[engine]\nruntime = "{runtime}"\n'
    if engine.get("runtime") != runtime:
        raise ConfigError(
            f"{like.settings.path}: [engine] is for {engine.get('runtime') or 'another runtime'}, the engine "
            f'is for {runtime}. Write the new model\'s {SETTINGS_FILE} yourself, with runtime = "{runtime}", '
            "and build again"
        )
    return text


def _label_names(like: ModelEntry | None) -> dict[str, str]:
    outputs = like.config.outputs if like else ()
    return {output.name: output.label_filename for output in outputs if output.label_filename}


def _label_files(like: ModelEntry) -> dict[str, bytes]:
    """Return the label files that the other model names, by their names in its folder."""
    table = like.settings.tree.get("labels", {})
    stated = table.get("file") if isinstance(table, dict) else None
    names = {*_label_names(like).values(), *([stated] if isinstance(stated, str) else [])}
    contents = {}
    for name in sorted(names):
        path = confined(like.folder, name, like.folder, f"{like.folder}: labels")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
        if len(content) > MAX_LABELS_BYTES:
            raise ModelError(f"{path}: has {len(content)} bytes, expected at most {MAX_LABELS_BYTES}")
        contents[name] = content
    return contents
