"""Every command printed in the book: the tutorial is followed to the letter, the others exist and are spelled as printed."""

from __future__ import annotations

import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from conftest import REPOSITORY
from functional_self import subjects
from functional_self.cli import app
from functional_self.runs import answers, published, stage
from functional_self.runs import chapter as chapters
from live import without_answers
from markdown_it import MarkdownIt
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from typer.main import get_command

PLACE = "/path/to/your/model"
LEFT_OUT = shutil.ignore_patterns(".venv*", "_build", ".*_cache", "local.yml", "before*")
READS = ("doctor", "subjects", "stale", "claims", "materials check", "organisms list")
"""Commands that change nothing and take seconds: they are run as they are printed."""


def blocks(path: Path, language: str | None = None) -> list[str]:
    """The fenced blocks of a page, of one language or of none and bash."""
    wanted = (language,) if language else ("", "bash", "console", "sh")
    return [t.content for t in MarkdownIt().parse(path.read_text()) if t.type == "fence" and t.info.strip() in wanted]


def printed() -> list[tuple[str, str]]:
    """Page and command line of everything a page tells its reader to type, in blocks and in the text."""
    found = []
    for path in [*stage.pages(), REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]:
        text = path.read_text()
        rows = [row for block in blocks(path) for row in block.splitlines()]
        rows += re.findall(r"(?<!`)`((?:functional-self|make) [^`]+)`(?!`)", text)
        for row in rows:
            command = re.sub(r"\s+#.*$", "", row).strip()
            if command.startswith(("functional-self ", "make ")):
                found.append((path.name, command))
    return sorted(set(found))


def subcommand(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words name, and which of them do."""
    node, path = get_command(app), []
    while words[len(path) :] and words[len(path)] in getattr(node, "commands", {}):
        path.append(words[len(path)])
        node = node.commands[path[-1]]
    return node, path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A small model directory: two layers of random weights in the default subject's shape, with its tokenizer and template."""
    home, where = tmp_path_factory.mktemp("model"), subjects.directory("smollm2", subjects.resolve("smollm2"))
    config = AutoConfig.from_pretrained(where)
    config.num_hidden_layers = 2
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(home)
    AutoTokenizer.from_pretrained(where).save_pretrained(home)
    return home


def test_the_tutorial_works_to_the_letter(model, tmp_path, monkeypatch):
    checkout = tmp_path / "checkout"
    shutil.copytree(REPOSITORY, checkout, ignore=LEFT_OUT, symlinks=True)
    (checkout / ".venv").symlink_to(Path(sys.executable).parent.parent)
    if not (checkout / ".git").is_dir():  # a copy without history, or a worktree: the way back needs a commit
        (checkout / ".git").unlink(missing_ok=True)
        subprocess.run("git init -q . && git add -A", cwd=checkout, shell=True, check=True)
    commands = "".join(blocks(REPOSITORY / "book" / "tutorial.md", "bash"))
    assert commands.count(PLACE) == 1, "one thing to change, as the page says"
    for name in ("FUNCTIONAL_SELF_ROOT", "FUNCTIONAL_SELF_RUNS"):
        monkeypatch.delenv(name, raising=False)
    forward, back = commands.split("git checkout")
    before = published.pointers()["01-void"]
    script = "set -euo pipefail\n" + forward.replace(PLACE, str(model))
    environment = os.environ | {
        "FUNCTIONAL_SELF_CACHE": str(without_answers(tmp_path / "cache")),
    }
    done = subprocess.run(["bash", "-c", script], cwd=checkout, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    monkeypatch.setenv("FUNCTIONAL_SELF_ROOT", str(checkout))
    run = published.find("01-void")
    assert run is not None and run.name != before and run.manifest["parameters"]["subjects"] == [str(model)]
    assert run.manifest["parameters"]["score"] == "raw" and any("mine.yml" in name for name in run.manifest["materials"])
    assert "tea-coffee" in set(pd.read_csv(run.path / "scores" / "subject.csv.gz")["item"]), "the new item was asked"
    kept = published.find("01-void", published.BEFORE)
    assert kept is not None and kept.name == before
    old = [line.said for line in answers.of_run(kept)]
    for page in ("chapters/01-void.html", "book/09-ledger.html"):
        text = (checkout / "_build" / "html" / page).read_text()
        assert run.name in text and before in text and "Verdicts before and now" in text, page
        assert all(said in text for said in set(old)), page
    assert model.name in (checkout / "_build" / "html" / "book" / "index.html").read_text()

    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\nsource .venv/bin/activate\ngit checkout{back}"],
        cwd=checkout,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert published.pointers()["01-void"] == before and published.find("01-void") is not None


def test_every_printed_command_exists_and_takes_what_is_printed():
    commands = printed()
    assert len(commands) > 20
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    for page, command in commands:
        program, *words = command.split()
        if program == "make":
            assert words[0] in targets or "=" in words[0], (page, command)
            continue
        node, path = subcommand(words)
        rest = words[len(path) :]
        assert path or not rest or rest[0].startswith("-"), (page, f"{command}: no such command")
        options = {name for parameter in node.params for name in parameter.opts}
        used = {word for word in rest if re.match(r"-", word)}
        assert used <= options | {"--help", "-h"}, (page, command, used - options)
        chapter = next((word for word in rest if re.fullmatch(r"\d\d-[a-z]+", word)), None)
        if chapter and chapter != "10-mine":  # the reader's own, of the contributor guide
            known = chapters.load(chapter).parameters
            given = [word.partition("=")[0] for flag, word in itertools.pairwise(rest) if flag == "-p" and "=" in word]
            assert set(given) <= set(known), (page, command)
            presets = [word for flag, word in itertools.pairwise(rest) if flag == "--preset"]
            assert set(presets) <= set(chapters.presets()), (page, command)


def typed_in_tests() -> list[list[str]]:
    """The texts of every call and list in the tests, in order: among them the arguments of each command that they run."""
    found = []
    for path in (REPOSITORY / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            words = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.List) else []
            found.append([word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)])
    return found


def test_every_printed_command_is_run_by_a_test():
    """The tutorial's as they stand; the others with a chapter, a preset, a model or an address that a test can have."""
    recipes = dict(re.findall(r"^([a-z-]+):.*\n((?:\t.*\n)*)", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    by_letter = {row.strip() for row in "".join(blocks(REPOSITORY / "book" / "tutorial.md", "bash")).splitlines()}
    typed, wanted = typed_in_tests(), []
    for page, command in printed():
        program, *words = command.split()
        if command not in by_letter:
            made = [word for word in words if word in recipes] if program == "make" else []
            inner = [row.split() for target in made for row in re.findall(r"\$\(CLI\) ([^;$|&]+)", recipes[target])]
            wanted += [(page, command, words) for words in (inner if program == "make" else [words])]
    for page, command, words in wanted:
        _, path = subcommand(words)
        needed = {word for word in words if word.startswith("--") or word == "backend=remote"}
        if " ".join(words).startswith(READS) and words == path:
            continue  # run by the next test
        assert any(given[: len(path)] == path and needed <= set(given) for given in typed), (page, command)
    assert len(wanted) > 20


def test_printed_commands_that_only_read_are_run(monkeypatch):
    monkeypatch.setenv("FUNCTIONAL_SELF_ROOT", str(REPOSITORY))
    monkeypatch.chdir(REPOSITORY)
    tree = get_command(app)
    ran = 0
    for page, command in printed():
        words = command.split()[1:]
        plain = not any(word.isupper() or "/" in word or "$" in word or word in ("--remote", "--fetch") for word in words)
        if command.startswith("functional-self ") and plain and " ".join(words).startswith(READS) and "mine.yml" not in command:
            done = CliRunner().invoke(tree, words)
            assert done.exit_code in (0, None), (page, command, done.output, done.exception)
            ran += 1
    assert ran >= 4
