"""Wrong input is one line with what and where, exit code 2, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import cli, cli_here, leftovers, refused
from functional_self import materials


def runs_in(project: Path) -> list[str]:
    return [p.name for p in (project / "runs").iterdir()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], ["nope", "tiny"]),
        (["tiny", "-p", "nonexistent=1"], ["nonexistent", "n_paraphrases"]),
        (["tiny", "-p", "n_paraphrases=-3"], ["n_paraphrases", "-3", "1 to 4"]),
        (["tiny", "-p", "n_paraphrases=two"], ["n_paraphrases", "int"]),
        (["tiny", "-p", "n_paraphrases=2.5"], ["n_paraphrases", "int"]),
        (["tiny", "-p", "subject=nobody"], ["nobody", "smollm2"]),
        (["tiny", "-p", "items=nothing"], ["nothing", "void"]),
        (["tiny", "-p", "pause"], ["NAME=VALUE"]),
        (["tiny", "--preset", "nope"], ["nope", "quick"]),
        (["tiny", "--analyse-only"], ["no published run"]),
    ],
)
def test_wrong_usage(project, arguments, words):
    refused(cli_here("run", *arguments), *words)
    assert runs_in(project) == []


def test_a_preset_with_an_unknown_parameter(project):
    (project / "params" / "quick.yml").write_text("tiny: {colour: 3}\n")
    refused(cli_here("run", "tiny"), "params/quick.yml", "colour")


@pytest.mark.parametrize("fault", ["unknown key", "duplicate id", "missing twin"])
def test_a_broken_item_file(project, fault):
    path = project / "mine.yml"
    raw = yaml.safe_load(materials.find("items", "void").read_text())
    if fault == "unknown key":
        raw["items"][0]["colour"] = "red"
    elif fault == "duplicate id":
        raw["items"].append(raw["items"][0])
    else:
        del raw["items"][0]["paraphrases"][0]["reverse"]
    path.write_text(yaml.safe_dump(raw))
    refused(cli_here("run", "tiny", "-p", f"items={path}"), "mine.yml", fault.split()[-1] if fault != "unknown key" else "colour")
    assert runs_in(project) == []


def test_a_cell_that_raises_names_chapter_and_cell(project):
    source = project / "chapters" / "tiny.md"
    source.write_text(source.read_text().replace("time.sleep(pause)", "1 / 0"))
    refused(cli_here("run", "tiny"), "chapters/tiny.md", "cell 2", "ZeroDivisionError")
    assert runs_in(project) == [] and not leftovers(project / "runs")


@pytest.fixture
def tmpfs(tmp_path):
    """A mounted tmpfs of a given size or mode; only root can make one."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mounted = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"tmpfs{len(mounted)}"
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.mark.parametrize("size", ["16k", "64k"])
def test_a_full_disk(project, tmpfs, size):
    folder = tmpfs(f"size={size}")
    refused(cli("run", "tiny", FUNCTIONAL_SELF_RUNS=str(folder)), "full")
    assert not list(folder.iterdir())


def test_a_full_disk_under_the_cache(project, tmpfs):
    folder = tmpfs("size=1m")
    done = cli("subjects", "--fetch", "smollm2", FUNCTIONAL_SELF_CACHE=str(folder))
    done.stderr = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("fetching"))
    refused(done, "smollm2", "space")
    assert not [p for p in folder.rglob("*") if p.is_file()]


def test_no_write_permission(project, tmpfs):
    folder = tmpfs("ro")
    refused(cli("run", "tiny", FUNCTIONAL_SELF_RUNS=str(folder / "runs")), "read-only", str(folder))


def test_a_chapter_with_two_parameter_cells(project):
    source = project / "chapters" / "tiny.md"
    text = source.read_text()
    source.write_text(
        text.replace("```{code-cell} ipython3\nimport time", "```{code-cell} ipython3\n:tags: [parameters]\nimport time")
    )
    refused(cli_here("run", "tiny"), "chapters/tiny.md", "parameters")


def test_help_teaches_and_listings_are_json(project):
    import json

    for command in ("doctor", "subjects", "run", "reproduce", "stale", "claims", "publish", "build"):
        done = cli_here(command, "--help")
        assert done.returncode == 0 and len(done.stdout.splitlines()) > 5, command
    for command in ("doctor", "subjects", "claims", "stale"):
        json.loads(cli_here(command, "--json").stdout)
    shutil.rmtree(project / "claims")
    assert json.loads(cli_here("claims", "--json").stdout) == []
