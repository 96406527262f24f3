"""What becomes of SIGHUP: the pipeline file is read and checked again, then followed or not."""

from __future__ import annotations

import logging
from contextlib import suppress

from edgert.device.opened import DeviceName
from edgert.errors import EdgertError
from edgert.pipeline.changes import Changes
from edgert.pipeline.file import PipelineFile
from edgert.pipeline.options import PipelineOptions

log = logging.getLogger(__name__)

_FOLLOWED = {"store", "models"}  # by loading models anew, beside the old ones


class Reload:
    """One reading of the file. `run` takes as long as loading does; then the rest tells what came of it."""

    def __init__(self, file: PipelineFile, device: DeviceName, changes: Changes) -> None:
        """Take the file that is followed now, and the device that it was opened on."""
        self.problem = ""  # why not everything is as the file says now
        self.successor: PipelineFile | None = None  # a file that needs a new line
        self.followed = file  # by the line, afterwards
        self._file = file
        self._device = device
        self._changes = changes

    def run(self) -> None:
        """Reload the models if nothing else differs. If the file is wrong, say so and change nothing."""
        try:
            file = self._file.read_again()
            different = self._differences(file)
            for problem in (
                file.problems(opens_engines=True, with_served=False) if different else file.own_problems()
            ):
                raise problem
        except EdgertError as error:
            self.problem = f"not reloaded, the old pipeline goes on: {error}"
            log.error("%s", self.problem)  # noqa: TRY400 - the operator's mistake has no traceback
            return
        if different:
            log.info("reloading: %s of %s changed", ", ".join(different), file.document.path)
            self.successor = file
        else:
            self._reload_models(file)

    def _reload_models(self, file: PipelineFile) -> None:
        self.followed = file
        self._changes.follow(file)
        try:
            self._changes.reload_all()
        except EdgertError as error:  # each has been logged
            self.problem = str(error)

    def _differences(self, file: PipelineFile) -> list[str]:
        """Return the keys of the pipeline file for whose sake the line has to be started anew."""
        old, new = self._file.options, file.options
        followed = _FOLLOWED if new.serve is None else _FOLLOWED - {"store"}  # what serves keeps to its store
        keys = [key for key in PipelineOptions.__struct_fields__ if key not in followed]
        different = [key for key in keys if getattr(old, key) != getattr(new, key)]
        before, now = self._file.served.secret_digests, file.served.secret_digests
        different += [f"the file of {key}" for key in now if key in before and now[key] != before[key]]
        with suppress(EdgertError):  # models that are wrong just now are told of when they are loaded
            if not different and file.device_name != self._device:
                different.append("the device of the models")
        return different
