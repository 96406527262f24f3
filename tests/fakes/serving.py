"""What serves models in a test: a scheduler, a repository and an opener, on the host."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgert.device.opened import open_device
from edgert.errors import UnknownModelError
from edgert.inference.core import Core
from edgert.inference.follower import Follower
from edgert.inference.open_version import Opener
from edgert.inference.override import Overrides
from edgert.inference.repository import Repository
from edgert.models.store import ModelStore
from edgert.pipeline.open_model import load_engine
from edgert.pipeline.shared_engines import SharedEngines
from edgert.schedule.scheduler import Scheduler
from edgert.serve.options import ServeOptions


class Served:
    """A repository over a store, without a core."""

    def __init__(self, folder: Path, device, scheduler) -> None:
        self.store = ModelStore(folder)
        opener = Opener(device, scheduler, load_engine, self.infer)
        self.repository = Repository(opener.open, retire_s=2.0)
        self.copies = device.copies

    def load(self, *names):
        """Load models of the store, in this order."""
        for name in names:
            self.repository.load(self.store.entry(name))

    def infer(self, request):
        """Send a request to the version that it names."""
        self.repository.get(request.model, request.version).infer(request)

    def statistics(self, name):
        """Return the counts of a model's newest version."""
        return self.repository.get(name).statistics()

    def is_gone(self, name):
        """Say whether a model is not served."""
        try:
            self.repository.get(name)
        except UnknownModelError:
            return True
        return False


@contextmanager
def serving(folder: Path):
    """Yield a Served over a store, and close everything after."""
    device, scheduler = open_device("host"), Scheduler()
    scheduler.start()
    served = Served(folder, device, scheduler)
    try:
        yield served
    finally:
        served.repository.close()
        scheduler.stop()
        device.close()


@contextmanager
def core(folder: Path, *, follows: bool = False, **options):
    """Yield a Core over a store that has begun, and close everything after."""
    with ExitStack() as undo:
        device, scheduler, store = open_device("host"), Scheduler(), ModelStore(folder)
        undo.callback(device.close)
        scheduler.start()
        undo.callback(scheduler.stop)
        opener = Opener(
            device, scheduler, SharedEngines(load_engine).load, lambda request: made.infer_step(request)
        )
        made = Core(store, ServeOptions(**options), Repository(opener.open, retire_s=5.0), Overrides())
        undo.callback(made.close, 5.0)
        if follows:
            follower = Follower(store, made, made._options.poll_s)
            for model in made.begin(follower.begin()):
                follower.failed(model)
            follower.start()
            undo.callback(follower.stop, 5.0)
        else:
            made.begin(made.named_at_start())
        yield made
