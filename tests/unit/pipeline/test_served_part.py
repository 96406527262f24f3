"""What `[serve]` needs of the machine, which models it begins with, and what `edgert check` says of it."""

from __future__ import annotations

import pytest

from edgert.cli import main
from edgert.device.board import CudaDriverProbe
from edgert.exit_codes import ExitCode
from edgert.models.model_config import ModelConfig
from edgert.models.store import ModelStore
from edgert.pipeline.file import PipelineFile
from edgert.pipeline.instance_groups import check_groups
from tests.fakes.broker import Certificates
from tests.fakes.onnx_store import add_chain, add_times, tensor
from tests.fakes.plan_file import write_plan
from tests.fakes.python_model import DOUBLE, write_model
from tests.fakes.store import Site

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'edgert[host]'")


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def driver(monkeypatch):
    """Return a function that says which CUDA driver there is."""

    def there_is(version):
        monkeypatch.setattr("edgert.pipeline.served_part.probe_cuda_driver", lambda: CudaDriverProbe(version))
        monkeypatch.setattr("edgert.pipeline.served_part.importlib.util.find_spec", lambda _: True)

    return there_is


def load(site, serve="", http="port = 0"):
    return PipelineFile.load(site.write(f"[http]\n{http}\n[serve]\n{serve}\n"))


def problems(site, serve="", http="port = 0"):
    return [str(problem) for problem in load(site, serve, http).problems(opens_engines=True)]


def add_plan(site, name="plan"):
    folder = site.add(name, config='platform: "tensorrt_plan"\n')
    write_plan(folder / "1" / "model.plan")


class TestDevice:
    @pytest.mark.parametrize(
        ("serve", "version", "device"),
        [
            ("", None, "cuda"),
            ('mode = "poll"', None, "cuda"),
            ('mode = "explicit"', None, "host"),
            ('mode = "explicit"\nload = ["a"]', None, "host"),
            ('mode = "explicit"\nload = ["*"]', None, "cuda"),
            ('mode = "explicit"\nload = ["plan"]', None, "cuda"),
            ('mode = "explicit"\nload = ["chain"]', None, "cuda"),
            ('mode = "explicit"\nload = ["a"]', (12, 6), "cuda"),
        ],
    )
    def test_what_is_loaded_at_the_start_decides_else_what_there_is(
        self, site, driver, serve, version, device
    ):
        add_plan(site)
        add_times(site.store, "a", 2)
        add_chain(site.store, "chain", "plan")
        driver(version)
        assert load(site, serve).device_name == device

    def test_a_store_of_the_host_needs_no_gpu_that_is_there(self, site, driver):
        add_times(site.store, "a", 2)
        driver((12, 6))
        assert load(site, 'mode = "explicit"').device_name == "host"

    def test_a_gpu_that_nothing_can_use_is_none(self, site, driver, monkeypatch):
        add_plan(site)
        driver((12, 6))
        monkeypatch.setattr("edgert.pipeline.served_part.importlib.util.find_spec", lambda _: None)
        assert load(site, 'mode = "explicit"').device_name == "host"

    def test_a_model_that_needs_one_is_refused_when_it_is_loaded(self):
        with pytest.raises(Exception, match="its engine needs a GPU, and the service runs without"):
            check_groups(ModelConfig(), "tensorrt", has_gpu=False)


def test_models_of_the_steps_of_ensembles_are_there_from_the_start(site):
    add_times(site.store, "a", 2)
    add_times(site.store, "b", 2)
    add_chain(site.store, "c", "a")
    add_chain(site.store, "d", "c", "gone")
    assert load(site, 'mode = "explicit"\nload = ["d"]').served.at_start() == ["d", "c", "a"]
    assert list(load(site).served.at_start()) == ["a", "b", "c", "d"]


class TestCheck:
    @pytest.mark.parametrize("is_stated", [True, False])
    def test_a_tensor_that_a_steps_model_does_not_have(self, site, is_stated):
        folder = add_times(site.store, "z", 2)
        if not is_stated:
            (folder / "config.pbtxt").write_text("max_batch_size: 8\n")
        add_chain(site.store, "e", ("z", "Q", "Y"))
        [problem] = problems(site)
        assert "step[0].input_map: found key 'Q', expected one of model 'z': X" in problem

    def test_an_ensemble_of_an_ensemble_and_of_a_broken_model(self, site):
        add_times(site.store, "z", 2)
        add_chain(site.store, "y", "z")
        add_chain(site.store, "e", ("y", "X", "Q"))
        (add_times(site.store, "b", 2) / "config.pbtxt").write_text("max_batch_size: [")
        add_chain(site.store, "f", "b")
        first, second = problems(site)
        assert "b/config.pbtxt" in first
        assert "e/config.pbtxt: field ensemble_scheduling.step[0].output_map: found key 'Q'" in second

    def test_an_engine_that_cannot_be_opened_here_is_believed_what_its_configuration_says(self, site):
        add_plan(site)
        add_chain(site.store, "e", ("plan", "Q", "Y"))
        assert not [problem for problem in problems(site) if "step[0]" in problem]
        tensors = f"input [{tensor('X')}] output [{tensor('Y')}]"
        config = f'platform: "tensorrt_plan" max_batch_size: 8 {tensors}'
        (site.store / "plan" / "config.pbtxt").write_text(config)
        [problem] = [problem for problem in problems(site) if "step[0]" in problem]
        assert "found key 'Q', expected one of model 'plan': X" in problem

    def test_a_key_of_another_certificate(self, site, tmp_path_factory):
        add_times(site.store, "a", 2)
        certificates = Certificates(tmp_path_factory.mktemp("certificates"))
        (certificate, key), (_, other) = certificates.server, certificates.client
        assert problems(site, f'tls = {{ certificate = "{certificate}", key = "{key}" }}') == []
        [problem] = problems(site, f'tls = {{ certificate = "{certificate}", key = "{other}" }}')
        assert problem.endswith(
            f": serve.tls.key {other} does not belong to serve.tls.certificate {certificate}"
        )

    @pytest.mark.parametrize(
        ("key", "what"),
        [
            ("certificate", "is no PEM certificate"),
            ("key", "is no PEM key"),
            ("client_ca", "is no PEM certificate"),
        ],
    )
    def test_a_file_of_tls_that_is_no_pem_is_named_with_its_key(self, site, tmp_path_factory, key, what):
        add_times(site.store, "a", 2)
        certificates = Certificates(tmp_path_factory.mktemp("certificates"))
        places = dict(zip(("certificate", "key"), map(str, certificates.server), strict=True))
        places["client_ca"] = str(certificates.ca)
        (site.folder / "junk").write_text("junk")
        places[key] = "junk"
        tls = ", ".join(f'{name} = "{place}"' for name, place in places.items())
        [problem] = problems(site, f"tls = {{ {tls} }}")
        assert f"serve.tls.{key} {site.folder / 'junk'} {what}" in problem

    def test_a_token_file_that_is_empty(self, site):
        add_times(site.store, "a", 2)
        (site.folder / "token").write_text("\n")
        [problem] = problems(site, 'token = "token"')
        assert f"serve.token {site.folder / 'token'}: the first line is empty" in problem

    @pytest.mark.parametrize("is_first", [True, False])
    def test_a_python_model_that_leaves_its_tensors_to_auto_complete_config(self, site, is_first):
        write_model(site.store, DOUBLE)
        given = "" if is_first else f"input [{tensor('x')}]"
        (site.store / "m" / "config.pbtxt").write_text(f'backend: "python" max_batch_size: 4 {given}\n')
        [problem] = problems(site)
        sides = "no inputs and no outputs" if is_first else "no outputs"
        told = f"states {sides}; auto_complete_config is not called: state them"
        assert problem == f"{site.store / 'm' / 'config.pbtxt'}: {told}"


class TestWarnings:
    OPEN = 'host = "0.0.0.0"\nport = 8000\ncontrol = true'

    def test_control_that_the_network_reaches(self, site):
        [warning] = load(site, http=self.OPEN).warnings()
        assert warning.endswith(
            "http.host = '0.0.0.0' with control = true: whoever reaches port 8000 may load and unload "
            'models; give serve.token or serve.tls.client_ca, or listen at "127.0.0.1"'
        )

    def test_control_of_http_holds_for_grpc_too(self, site):
        [warning] = load(site, 'grpc = { host = "10.0.0.1" }', "port = 0\ncontrol = true").warnings()
        assert "serve.grpc.host = '10.0.0.1' with control = true" in warning

    @pytest.mark.parametrize(
        ("serve", "http"),
        [
            ('token = "t"', OPEN),
            ('tls = { certificate = "c", key = "k", client_ca = "a" }', OPEN),
            ("", OPEN.replace("true", "false")),
            ("", OPEN.replace("0.0.0.0", "127.0.0.1")),
            ("", OPEN.replace("0.0.0.0", "::1")),
        ],
    )
    def test_none_where_a_token_a_certificate_or_the_address_keeps_others_out(self, site, serve, http):
        assert load(site, serve, http).warnings() == []

    def test_without_serving_only_the_address_helps(self, site, capsys):
        site.add_noop()
        text = f'[sources.s]\nuri = "replay:noise"\nmodels = ["noop"]\n[http]\n{self.OPEN}\n'
        assert main(["check", str(site.write(text))]) == ExitCode.OK
        assert 'may load and unload models; listen at "127.0.0.1"' in capsys.readouterr().err

    def test_check_shows_what_is_ignored_in_models_that_only_requests_use(self, site, capsys):
        add_times(site.store, "a", 2, rest="max_batch_sise: 3")
        path = site.write("[http]\nport = 0\n[serve]\n")
        assert main(["check", str(path)]) == ExitCode.OK
        said = capsys.readouterr().err
        assert "a/config.pbtxt:1: field 'max_batch_sise' is not known to edgert and is ignored" in said
        assert load(site).warnings() == []  # loading logs it

    def test_folders_that_are_no_models(self, site):
        add_times(site.store, "a", 2)
        (site.store / "empty").mkdir()
        (site.store / "a+b" / "1").mkdir(parents=True)
        for name in (".git", "lost+found"):  # of others
            (site.store / name).mkdir()
        (site.store / "README").write_text("")
        empty, wrong = load(site).warnings()
        assert empty.startswith(
            f"{site.store / 'empty'}: is passed over, as it has neither config.pbtxt nor a"
        )
        assert wrong == f"{site.store / 'a+b'}: is passed over: expected a name without '+'"
        assert ModelStore(site.folder / "nowhere").warnings() == []
