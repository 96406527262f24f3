"""`edgert models` with `[serve]`: what it lists, and how it asks a service that wants a token and TLS."""

from __future__ import annotations

import os

import pytest

from edgert.cli import main
from edgert.errors import ModelError
from edgert.exit_codes import ExitCode
from edgert.serve.ask import Server
from edgert.serve.options import TlsOptions
from tests.fakes.broker import Certificates
from tests.fakes.onnx_store import add_chain, add_times
from tests.fakes.store import Site

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'edgert[host]'")
pytest.importorskip("httptools", reason="needs httptools: pip install 'edgert[serve]'")

from tests.fakes.http_front import HttpSite


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


class TestList:
    def rows(self, site, capsys, text, code=ExitCode.OK):
        assert main(["models", str(site.write(text))]) == code
        return capsys.readouterr()

    def test_ensembles_have_a_row_like_others(self, site, capsys):
        add_times(site.store, "a", 2)
        add_chain(site.store, "e", "a")
        for text, used in (("[http]\n[serve]\n", "yes"), ('[http]\n[serve]\nmode = "explicit"\n', "no")):
            lines = self.rows(site, capsys, text).out.splitlines()
            assert [line.split() for line in lines[1:]] == [
                ["a", "1", "1", used, "onnxruntime"],
                ["e", "1", "1", used, "ensemble"],
            ]

    def test_an_ensemble_that_is_wrong_is_told(self, site, capsys):
        add_chain(site.store, "e", "gone")
        said = self.rows(site, capsys, "[http]\n[serve]\n", ExitCode.MODEL).out
        assert "step[0].model_name: found 'gone', expected a model of the store" in said

    def test_what_requests_alone_use_needs_nothing_that_frames_need(self, site, capsys):
        add_times(site.store, "flat", 2)
        said = self.rows(site, capsys, "[http]\n[serve]\n").out
        assert said.splitlines()[1].split() == ["flat", "1", "1", "yes", "onnxruntime"]

    def test_folders_that_are_passed_over_are_warned_of(self, site, capsys):
        add_times(site.store, "a", 2)
        (site.store / "empty").mkdir()
        found = self.rows(site, capsys, "[http]\n[serve]\n")
        assert f"warning: {site.store / 'empty'}: is passed over" in found.err
        assert "empty" not in found.out


class TestChange:
    """Loads of a model in a service of which the pipeline file says TLS and token."""

    def load(self, site, front, serve, *more):
        file = site.write(f"[http]\nport = {front.port}\n[serve]\n{serve}\n")
        return main(["models", str(file), "--load", "identity", *map(str, more)])

    def tls(self, pair, **more):
        return TlsOptions(certificate=str(pair[0]), key=str(pair[1]), **more)

    def table(self, pair, more=""):
        return f'tls = {{ certificate = "{pair[0]}", key = "{pair[1]}"{more} }}'

    def test_the_files_token_is_shown(self, site):
        (site.folder / "token").write_text("secret\n")
        with HttpSite(token="secret") as front:
            assert self.load(site, front, 'token = "token"') == ExitCode.OK
            assert front.core.changes == [("load", "identity", None, None)]

    def test_a_token_that_is_wrong_or_not_there_is_told_with_what_to_do(self, site, capsys):
        (site.folder / "token").write_text("other\n")
        with HttpSite(token="secret") as front:
            assert self.load(site, front, 'token = "token"') == ExitCode.CONFIG
            assert "does not take this token; give --token-file FILE" in capsys.readouterr().err
            assert self.load(site, front, "") == ExitCode.CONFIG
            assert "wants a token; give --token-file FILE" in capsys.readouterr().err
            assert self.load(site, front, 'token = "gone"') == ExitCode.CONFIG
            assert "Give --token-file FILE" in capsys.readouterr().err
            (site.folder / "mine").write_text("secret\n")
            assert (
                self.load(site, front, 'token = "gone"', "--token-file", site.folder / "mine") == ExitCode.OK
            )

    def test_the_files_own_certificate_is_believed_whatever_names_it_has(self, site, certificates):
        elsewhere = certificates._signed("elsewhere", "subjectAltName=DNS:elsewhere")
        with HttpSite(tls=self.tls(elsewhere)) as front:
            assert self.load(site, front, self.table(elsewhere)) == ExitCode.OK

    def test_another_certificate_is_not(self, site, certificates, capsys):
        with HttpSite(tls=self.tls(certificates.client)) as front:
            assert self.load(site, front, self.table(certificates.server)) == ExitCode.CONFIG
        said = capsys.readouterr().err
        assert "its certificate is not believed" in said
        assert "give --ca FILE" in said

    def test_an_authority_that_is_given_is_believed_with_the_certificates_names(
        self, site, certificates, capsys
    ):
        ca = ("--ca", certificates.ca)
        with HttpSite(tls=self.tls(certificates.server)) as front:
            assert self.load(site, front, self.table(certificates.server), *ca) == ExitCode.OK
        with HttpSite(tls=self.tls(certificates.client)) as front:
            assert self.load(site, front, self.table(certificates.client), *ca) == ExitCode.CONFIG
        assert "its certificate is not believed" in capsys.readouterr().err

    def test_no_token_goes_in_clear_where_an_authority_was_given(self, site, certificates, capsys):
        (site.folder / "token").write_text("secret\n")
        with HttpSite(token="secret") as front:
            ca = ("--ca", certificates.ca)
            assert self.load(site, front, 'token = "token"', *ca) == ExitCode.CONFIG
            assert "speaks no TLS" in capsys.readouterr().err
            url = f"http://127.0.0.1:{front.port}"
            assert main(["inspect", "--allocations", url, *map(str, ca)]) == ExitCode.CONFIG
            assert "speaks no TLS" in capsys.readouterr().err
            assert front.core.changes == []

    def test_a_token_in_any_letters_is_shown_and_never_printed(self, site):
        (site.folder / "token").write_text("Schlüssel €\n")
        with HttpSite(token="Schlüssel €") as front:
            assert self.load(site, front, 'token = "token"') == ExitCode.OK
        assert "secret" not in repr(Server("here", 80, None, "secret"))

    def test_a_service_that_wants_to_see_a_certificate(self, site, certificates, capsys):
        table = self.table(certificates.server, f', client_ca = "{certificates.ca}"')
        own, key = certificates.client
        with HttpSite(tls=self.tls(certificates.server, client_ca=str(certificates.ca))) as front:
            assert self.load(site, front, table) == ExitCode.CONFIG
            assert "give --certificate FILE with --key FILE" in capsys.readouterr().err
            assert self.load(site, front, table, "--certificate", own, "--key", key) == ExitCode.OK
            assert self.load(site, front, table, "--certificate", own, "--key", certificates.server[1]) == 2
            assert "cannot be used for TLS" in capsys.readouterr().err

    def test_a_service_without_tls_where_the_file_says_tls(self, site, certificates, capsys):
        with HttpSite(limits={"arrive_s": 0.2}) as front:
            assert self.load(site, front, self.table(certificates.server)) == ExitCode.CONFIG
        assert "does it speak TLS there?" in capsys.readouterr().err

    def test_a_refusal_is_told_in_the_services_words(self, site, capsys):
        with HttpSite() as front:
            front.core.load_failure = ModelError("no engine")
            assert self.load(site, front, "") == ExitCode.MODEL
        assert capsys.readouterr().err == "edgert: no engine\n"

    def test_a_port_that_is_chosen_at_the_start_is_not_known(self, site, capsys):
        assert (
            main(["models", str(site.write("[http]\nport = 0\n[serve]\n")), "--load", "a"]) == ExitCode.CONFIG
        )
        assert "Add --set http.port=NUMBER" in capsys.readouterr().err

    def test_a_service_on_all_addresses_is_asked_here(self, site):
        with HttpSite() as front:
            file = site.write(f'[http]\nhost = "0.0.0.0"\nport = {front.port}\n[serve]\n')
            assert main(["models", str(file), "--load", "identity"]) == ExitCode.OK


class TestAllocations:
    """`edgert inspect --allocations` of a pipeline file, and of a URL."""

    @pytest.fixture
    def front(self, certificates):
        report = b'{"mono_ns":1,"used_bytes":7,"peak_bytes":9,"limit_bytes":0,"owners":{},"events":[]}'
        pages = {"/v1/allocations": lambda: (report, "application/json")}
        tls = TlsOptions(certificate=str(certificates.server[0]), key=str(certificates.server[1]))
        with HttpSite(token="secret", tls=tls, pages=pages) as front:
            yield front

    def test_a_pipeline_file_says_how_to_ask(self, site, front, certificates, capsys):
        (site.folder / "token").write_text("secret\n")
        certificate, key = certificates.server
        file = site.write(
            f'[http]\nport = {front.port}\n[serve]\ntoken = "token"\n'
            f'tls = {{ certificate = "{certificate}", key = "{key}" }}\n'
        )
        assert main(["inspect", "--allocations", str(file)]) == ExitCode.OK
        assert capsys.readouterr().out.startswith("used 7 B, at most 9 B so far")

    def test_a_url_is_asked_with_what_is_given(self, site, front, certificates, capsys):
        (site.folder / "mine").write_text("secret\n")
        url = f"https://127.0.0.1:{front.port}"
        token = ("--token-file", str(site.folder / "mine"))
        assert main(["inspect", "--allocations", url, *token]) == ExitCode.CONFIG
        assert "its certificate is not believed" in capsys.readouterr().err
        given = ("--ca", os.fspath(certificates.ca), *token)
        assert main(["inspect", "--allocations", url, *given]) == ExitCode.OK
        assert main(["inspect", "--allocations", url, *given[:2]]) == ExitCode.CONFIG
        assert "wants a token" in capsys.readouterr().err
