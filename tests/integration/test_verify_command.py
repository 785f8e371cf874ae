"""``muster verify`` on models, cards, packs and servers, good and bad."""

from __future__ import annotations

import functools
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from muster.digest import Digest
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.testing.site import Site

pytestmark = pytest.mark.timeout(120)


def verify(*arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "muster.cli.main", "verify", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        input=stdin,
        env=os.environ | env,
    )


def checks(*arguments: str, stdin: str = "", **env: str) -> dict[str, Any]:
    """Each check's code by its name, ``ok`` for those that passed; agrees with the exit code."""
    result = verify(*arguments, "--json", stdin=stdin, **env)
    told = json.loads(result.stdout)
    assert result.returncode == (0 if told["ok"] else 1)
    assert told["ok"] == all(each["ok"] for each in told["checks"])
    return {each["name"]: "ok" if each["ok"] else each["code"] for each in told["checks"]}


@pytest.fixture
def server(model: Path) -> Iterator[str]:
    """An HTTP server of the model's files; its base URL."""
    handler = functools.partial(QuietHandler, directory=str(model))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name
        """Say nothing."""


def hosted(model: Path, base: str) -> str:
    card = ModelDeploymentCard.load(model, "tiny")
    return card.replace_files(lambda file: file.with_url(f"{base}/{file.basename()}")).to_json_str()


FILES = {
    "file config.json": "ok",
    "file tokenizer.json": "ok",
    "file tokenizer_config.json": "ok",
    "file generation_config.json": "ok",
}


# -- directories and packs --------------------------------------------------------------------


def test_a_good_directory_passes(model: Path) -> None:
    assert checks(str(model)) == {"card": "ok", "load": "ok", "chat": "ok"}
    result = verify(str(model))
    assert result.returncode == 0
    assert all(line.startswith("ok ") for line in result.stdout.splitlines())


def test_a_model_without_a_template_passes_and_says_so(model: Path) -> None:
    (model / "tokenizer_config.json").unlink()
    result = verify(str(model))
    assert result.returncode == 0
    assert "completions only" in result.stdout


@pytest.mark.parametrize(
    ("name", "content", "check"),
    [
        ("config.json", None, "card"),
        ("config.json", "[]", "card"),
        ("tokenizer.json", None, "load"),
        ("tokenizer.json", "{}", "load"),
        ("tokenizer_config.json", '{"chat_template": 3}', "load"),
        ("tokenizer_config.json", '{"chat_template": "{% if"}', "load"),
        ("chat_template.jinja", "{{ raise_exception('no') }}", "chat"),
    ],
)
def test_a_bad_directory_fails_where_it_is_bad(
    model: Path, name: str, content: str | None, check: str
) -> None:
    if content is None:
        (model / name).unlink()
    else:
        (model / name).write_text(content)
    found = checks(str(model))
    assert [each for each, code in found.items() if code != "ok"] == [check]
    shown = verify(str(model))
    assert shown.returncode == 1
    assert "Traceback" not in shown.stderr
    assert f"failed  {check} (" in shown.stdout


def test_a_pack_is_verified_and_a_cut_one_fails(model: Path, tmp_path: Path) -> None:
    pack = tmp_path / "a.pack"
    command = [sys.executable, "-m", "muster.cli.main", "pack", str(model), "-o", str(pack)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert checks(str(pack)) == {"pack": "ok", "load": "ok", "chat": "ok"}
    pack.write_bytes(pack.read_bytes()[:-1])
    assert checks(str(pack)) == {"pack": "content"}


# -- cards ------------------------------------------------------------------------------------


def test_a_cards_files_are_fetched_verified_and_loaded(
    model: Path, server: str, tmp_path: Path
) -> None:
    card = tmp_path / "card.json"
    card.write_text(hosted(model, server))
    expected = {"card": "ok", **FILES, "load": "ok", "chat": "ok"}
    assert checks(str(card), "--allow", "127.0.0.1") == expected
    assert checks("-", "--allow", "127.0.0.1", stdin=card.read_text()) == expected


def test_a_registry_record_is_a_card_too(model: Path, server: str) -> None:
    record = json.dumps({"namespace": "n", "card_json": json.loads(hosted(model, server))})
    assert checks("-", "--allow", "127.0.0.1", stdin=record)["chat"] == "ok"


def test_every_bad_file_is_named(model: Path, server: str) -> None:
    card = hosted(model, server)
    (model / "config.json").write_text('{"max_position_embeddings": 1}')
    (model / "generation_config.json").unlink()
    found = checks("-", "--allow", "127.0.0.1", stdin=card)
    assert {name for name, code in found.items() if code == "ok"} == {
        "card", "file tokenizer.json", "file tokenizer_config.json",
    }  # fmt: skip
    assert found["file config.json"] != "ok"
    assert found["file generation_config.json"] != "ok"


def test_code_stays_where_it_is_and_the_model_is_served_without_it(
    model: Path, server: str
) -> None:
    (model / "modeling.py").write_text("raise SystemExit")
    card = ModelDeploymentCard.load(model, "tiny")
    whole = msgspec.structs.replace(
        card, extra_files=(CheckedFile.from_disk(model / "modeling.py"),)
    ).replace_files(lambda file: file.with_url(f"{server}/{file.basename()}"))
    result = verify("-", "--allow", "127.0.0.1", "--json", stdin=whole.to_json_str())
    assert result.returncode == 0
    (told,) = (
        check
        for check in json.loads(result.stdout)["checks"]
        if check["name"] == "file modeling.py"
    )
    assert (told["ok"], told["code"]) == (True, "code_file")


def test_a_host_nobody_allowed_is_not_asked(model: Path, server: str) -> None:
    found = checks("-", stdin=hosted(model, server))
    assert {found[name] for name in FILES} == {"untrusted"}
    assert "load" not in found


def test_a_cards_local_paths_are_believed_below_roots_only(model: Path, tmp_path: Path) -> None:
    card = ModelDeploymentCard.load(model, "tiny").to_json_str()
    assert checks("-", "--root", str(tmp_path), stdin=card)["chat"] == "ok"
    assert "load" not in checks("-", stdin=card)


def test_a_models_directory_stands_in_for_a_card_s_places(model: Path, server: str) -> None:
    card = hosted(model, server.replace("127.0.0.1", "127.0.0.2"))
    assert checks("-", "--model-path", str(model), stdin=card)["chat"] == "ok"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"display_name": "x"}', "[" * 100_000])
def test_what_is_no_card_fails(text: str) -> None:
    assert checks("-", stdin=text) == {"card": "card"}


def test_a_target_that_does_not_exist_fails(tmp_path: Path) -> None:
    assert checks(str(tmp_path / "missing")) == {"card": "card"}


# -- URLs -------------------------------------------------------------------------------------


def test_one_file_at_a_url_is_checked_against_its_digest(model: Path, server: str) -> None:
    url = f"{server}/config.json"
    right = str(Digest.of((model / "config.json").read_bytes()))
    assert checks(url, "--digest", right) == {"file config.json": "ok"}
    wrong = str(Digest.of(b""))
    assert checks(url, "--digest", wrong)["file config.json"] == "digest_mismatch"
    assert checks(f"{server}/none", "--digest", right)["file none"] == "source"


def test_a_card_at_a_url_is_checked(model: Path, server: str) -> None:
    (model / "card.json").write_text(hosted(model, server))
    assert checks(f"{server}/card.json")["chat"] == "ok"
    assert checks(f"{server}/config.json") == {"card": "card"}
    assert checks(f"{server}/none") == {"card": "source"}
    assert checks("http://127.0.0.1:1/card.json") == {"card": "source"}


def test_a_workers_status_server_is_checked_by_the_cards_in_the_registry(
    site: Site, model: Path
) -> None:
    site.worker(model, "tiny")
    (record,) = site.records("v1/mdc").values()
    url = record["card_json"]["tokenizer"]["hf_tokenizer_json"]["path"].partition("/v1/")[0]
    env = {"DYN_FILE_KV": str(site.registry)}
    unknown = {"DYN_FILE_KV": str(site.root / "other")}
    assert checks(url, **unknown) == {"list": "ok", **FILES}
    assert checks(url, **env) == {"card": "ok", **FILES, "load": "ok", "chat": "ok"}
    assert checks(f"{url}/", **env)["chat"] == "ok"
    assert checks("http://127.0.0.1:1", **env) == {"card": "discovery"}


def test_a_worker_that_wants_a_token_gets_it_from_the_settings(site: Site, model: Path) -> None:
    site.worker(model, "tiny", MUSTER_METADATA_TOKEN="open sesame")
    (record,) = site.records("v1/mdc").values()
    url = record["card_json"]["tokenizer"]["hf_tokenizer_json"]["path"].partition("/v1/")[0]
    other = {"DYN_FILE_KV": str(site.root / "other")}
    assert checks(url, **other) == {"card": "discovery"}
    assert checks(url, MUSTER_METADATA_TOKEN="open sesame", **other) == {"list": "ok", **FILES}
    ours = {"DYN_FILE_KV": str(site.registry)}
    assert checks(url, MUSTER_METADATA_TOKEN="open sesame", **ours)["chat"] == "ok"


def test_wrong_usage_exits_with_2(model: Path) -> None:
    digest = str(Digest.of(b""))
    assert verify(str(model), "--digest", digest).returncode == 2
    assert verify("http://h/x", "--digest", "md5:0").returncode == 2
    assert verify("http://", "--digest", digest).returncode == 2
    assert verify().returncode == 2
