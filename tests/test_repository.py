"""The layout people rely on, and the pins that must agree."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import tomllib

import pytest
import yaml
from conftest import REPOSITORY
from functional_self.runs import published, stage
from packaging.specifiers import SpecifierSet

LOCK = dict(re.findall(r"^([\w.-]+)==(\S+)$", (REPOSITORY / "requirements.lock").read_text(), flags=re.MULTILINE))


def test_the_layout_is_the_one_asked_for():
    for name in ("book", "_config.yml", "_toc.yml", "chapters", "lib", "environment.yml", "tests"):
        assert (REPOSITORY / name).exists(), name


def test_environment_agrees_with_the_lock():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    pins = dict(entry.split("==") for entry in pip if "==" in entry)
    assert {"jupyter-book", "nnsight", "torch", "transformers", "matplotlib", "papermill", "pytest"} <= pins.keys()
    assert "-r requirements.lock" in pip and "python=3.11" in environment["dependencies"]
    assert {name: LOCK[name] for name in pins} == pins


def test_every_dependency_is_locked():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    locked = {name.lower().replace("_", "-") for name in LOCK}
    assert {name.lower() for name in project["dependencies"]} <= locked


def test_the_installed_packages_are_the_locked_ones():
    wrong = {n: importlib.metadata.version(n) for n, v in LOCK.items() if importlib.metadata.version(n).split("+")[0] != v}
    assert not wrong


def test_the_lock_installs_on_every_python_it_names():
    """Debian 12's is 3.11.2; a pin that asks for a later 3.11 leaves its owner without an environment."""
    asked = {name: SpecifierSet(importlib.metadata.metadata(name)["Requires-Python"] or "") for name in LOCK}
    assert len(asked) > 100 and [f"{name} {wanted}" for name, wanted in asked.items() if "3.11.0" not in wanted] == []


def test_published_runs_are_fresh_and_the_book_has_no_problems():
    assert published.pointers(), "no chapter is published"
    assert stage.problems() == []


def test_no_key_and_no_machine_path_in_what_is_committed():
    files = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True).stdout.split()
    if not files:
        pytest.skip("not a git checkout")
    forbidden = re.compile(r"/root/|/home/\w|NDIF_API_KEY=|hf_[A-Za-z0-9]{20}|/wo" + "rk/")
    for name in files:
        path = REPOSITORY / name
        if path.is_file() and path.suffix != ".gz" and path.name != "test_repository.py":
            assert not forbidden.search(path.read_text(errors="ignore")), name


def test_every_command_of_the_readme_exists():
    text = (REPOSITORY / "README.md").read_text() + (REPOSITORY / "book" / "how-to-read.md").read_text()
    make = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    assert make <= targets, make - targets
    from functional_self.cli import app
    from typer.main import get_command

    assert set(re.findall(r"functional-self ([a-z]+)\b", text)) <= set(get_command(app).commands)
