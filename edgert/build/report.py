"""What a build or a comparison has come to, for people and for programs."""

from __future__ import annotations

from typing import Any

import msgspec

from edgert.build.shapes import Profile
from edgert.models.manifest import Manifest


class BuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """One engine that was built and is in the store."""

    model: str
    version: int
    file: str
    manifest: Manifest
    seconds: float
    written: tuple[str, ...]  # files beside it that there were none of
    removed: tuple[str, ...]  # versions that went
    notes: tuple[str, ...]


def report_lines(report: BuildReport) -> list[str]:
    """Return the report as text."""
    built = report.manifest
    lines = [
        f"{report.model} {report.version}: {report.file}, {built.plan_bytes / 1e6:.1f} MB, {built.runtime} "
        f"{built.runtime_version}, {built.precision}, {report.seconds:.1f} s"
    ]
    lines += [f"  profile {index}: {_profile(profile)}" for index, profile in enumerate(built.profiles)]
    lines += [f"  written: {', '.join(report.written)}"] if report.written else []
    lines += [f"  removed: version {', '.join(report.removed)}"] if report.removed else []
    lines += [f"  {line}" for line in agreement_lines(built.agreement)]
    return lines + [f"  note: {note}" for note in report.notes]


def agreement_lines(agreement: dict[str, Any]) -> list[str]:
    """Return a manifest's comparison as text."""
    if not agreement:
        return []
    if not agreement["made"]:
        return [f"NOT compared with onnxruntime: {agreement['reason']}"]
    verdict = "near" if agreement["near"] else "NOT near"
    lines = [f"{verdict} onnxruntime in {agreement['pictures']} pictures"]
    lines += [
        f"  {match['name']}: cosine {match['cosine']:.6f}, largest difference {match['relative_error']:.2%}"
        for match in agreement["outputs"]
    ]
    if decoded := agreement["agreement"]:
        lines.append(
            f"  {decoded['kind']}: {decoded['share']:.1%} of {decoded['compared']} agree, scores within "
            f"{decoded['score_difference']:.3f}"
        )
    return lines + [f"  {problem}" for problem in agreement["problems"]]


def _profile(profile: Profile) -> str:
    return ", ".join(
        f"{name} {':'.join('x'.join(map(str, s)) for s in (r.minimum, r.optimum, r.maximum))}"
        for name, r in profile.items()
    )
