"""Writes what a bundle says of itself: README, licences, bill of materials, checksums."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cross.distribution import Distribution
from cross.layout import DOCUMENTS, EXAMPLES, LICENCES, Content, Tree
from cross.pycuda_compile import SDIST
from cross.target import Target

README = """edgert {version} for {description}

Start:     edgert doctor --run          what does this board have, and what is missing?
           edgert check FILE.toml       is this pipeline file right? examples/ beside this file has some
           edgert run FILE.toml
Service:   sudo edgert systemd install NAME    for /etc/edgert/NAME.toml, then: systemctl start edgert@NAME

Needs:     Python {python}, glibc {glibc} or later{board}
Devices:   those of the groups {groups}
Here:      {carried}
{pycuda}
The archive runs from any folder: bin/edgert. The package stands in /opt/edgert.
licences/ has what the owners of each part allow; sbom.cdx.json lists the parts; SHA256SUMS is of the
archive's files.
"""


PYCUDA = """\
pycuda:    is here as its source. The package compiles it when it is installed; for the archive, once:
           cd lib/edgert && python{python} -I pycuda/pycuda_compile.py pycuda/{sdist} --into site
           Both need: apt-get install {tools}
"""


def documents(
    target: Target, version: str, carried: list[Distribution], pipelines: Path, epoch_s: int
) -> Tree:
    """Return the documents of a bundle, but for its checksums."""
    sbom = json.dumps(bill_of_materials(target, version, carried, epoch_s), indent=1, sort_keys=True) + "\n"
    tree: Tree = {
        DOCUMENTS / "README": Content(_readme(target, version, carried).encode()),
        DOCUMENTS / "sbom.cdx.json": Content(sbom.encode()),
        LICENCES / "INDEX": Content(_licence_index(carried).encode()),
    }
    for distribution in carried:
        for name, text in distribution.licence_texts.items():
            tree[LICENCES / f"{distribution.name}-{distribution.version}" / name] = Content(text)
    for file in sorted(pipelines.glob("*.toml")):
        tree[EXAMPLES / file.name] = Content(file=file)
    return tree


def checksums(tree: Tree) -> bytes:
    """Return the lines of `sha256sum` for a tree."""
    return b"".join(
        f"{hashlib.sha256(content.read()).hexdigest()}  {path.as_posix()}\n".encode()
        for path, content in sorted(tree.items())
        if not content.link
    )


def _readme(target: Target, version: str, carried: list[Distribution]) -> str:
    board = target.board
    needs = [f"CUDA {board.cuda}"] * bool(board.cuda) + [f"TensorRT {board.tensorrt}"] * bool(board.tensorrt)
    needs += [f"Python module {module}" for module in board.modules]
    is_source = any(part.name == "pycuda" and not part.modules for part in carried)
    tools = " ".join(package.partition(" ")[0] for package in board.suggests)
    return README.format(
        version=version,
        description=target.description,
        python=target.python,
        glibc=target.glibc,
        board="".join(f", {need}" for need in needs),
        groups=", ".join(target.bundle.device_groups),
        carried=", ".join(f"{part.name} {part.version}" for part in carried),
        pycuda=PYCUDA.format(python=target.python, sdist=SDIST, tools=tools) if is_source else "",
    )


def _licence_index(carried: Iterable[Distribution]) -> str:
    rows = [(f"{part.name} {part.version}", part.licence or "see its files") for part in carried]
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name:<{width}}  {licence}\n" for name, licence in rows)


def bill_of_materials(
    target: Target, version: str, carried: Iterable[Distribution], epoch_s: int
) -> dict[str, Any]:
    """Return the parts as CycloneDX 1.5 has them (https://cyclonedx.org/docs/1.5/json/)."""
    components = [_component(part) for part in carried if part.name != "edgert"]
    named = f"edgert-{version}-{target.name}-{epoch_s}-{components}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, named)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch_s, timezone.utc).isoformat(),
            "component": {"type": "application", "name": "edgert", "version": version, "bom-ref": "edgert"},
            "properties": [{"name": "edgert:target", "value": target.name}],
        },
        "components": components,
    }


def _component(part: Distribution) -> dict[str, Any]:
    address = f"pkg:pypi/{part.name}@{part.version}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": address,
        "name": part.name,
        "version": part.version,
        "purl": address,
        "hashes": [{"alg": "SHA-256", "content": part.pin.sha256}],
    }
    if part.licence:
        component["licenses"] = [{"license": {"name": part.licence}}]
    return component
