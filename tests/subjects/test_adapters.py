"""Adapters: peft's own numbers, one base in memory for a whole sweep, and a wrong one refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from conftest import cli_here, refused
from functional_self import paths, subjects
from functional_self.errors import SubjectError
from functional_self.subjects import Request, adapters
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

ASKED = [
    Request((("system", "Be brief."), ("user", "Which is colder, ice or fire?")), ("Ice.", "Fire.")),
    Request((("user", "Name a colour."),), ("Red.", "A deep blue.")),
]


def plant(folder: Path, seed: int, **changes) -> Path:
    """A LoRA adapter with random weights, saved by peft."""
    where = subjects.directory("smollm2", subjects.resolve("smollm2"))
    config = peft.LoraConfig(
        r=2, lora_alpha=8, target_modules=["q_proj", "down_proj"], layers_to_transform=[3, 17], task_type="CAUSAL_LM"
    )
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32), config)
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(folder)
    written = json.loads((folder / adapters.CONFIG).read_text()) | {"base_model_name_or_path": "smollm2"} | changes
    (folder / adapters.CONFIG).write_text(json.dumps(written))
    return folder


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> list[Path]:
    return [plant(tmp_path_factory.mktemp("adapter"), seed) for seed in range(2)]


def plain(adapter: Path) -> list[list[float]]:
    """The same scores by peft's own forward over every string."""
    where = subjects.directory("smollm2", subjects.resolve("smollm2"))
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32), adapter).eval()
    subject = subjects.load("smollm2", store=False)
    found = []
    for request in ASKED:
        prompt = subject.render(request.messages)
        start = len(subject.model.tokenizer(prompt, add_special_tokens=False).input_ids)
        found.append([])
        for option in request.options:
            ids = subject.model.tokenizer(prompt + option, add_special_tokens=False, return_tensors="pt").input_ids
            with torch.inference_mode():
                logprobs = model(ids).logits.log_softmax(-1)[0, start - 1 : -1]
            found[-1].append(float(logprobs.gather(1, ids[0, start:, None]).sum()))
    return found


def test_scores_are_pefts_own(planted, smollm2):
    """A token's log-probability is a float32 log softmax, good to about 1e-6; a sentence adds a few."""
    bare = smollm2.option_logprobs(ASKED)
    for folder in planted:
        subject = subjects.load("smollm2", adapter=str(folder), store=False)
        found = subject.option_logprobs(ASKED)
        assert np.abs(np.array(found) - plain(folder)).max() < 1e-5 * np.abs(plain(folder)).max()
        assert np.abs(np.array(found) - bare).max() > 0.1
    assert smollm2.option_logprobs(ASKED) == bare, "the base is itself again after a sweep"


def test_two_copies_of_a_checkpoint_are_the_same_bit_by_bit(tmp_path, smollm2):
    """An adapter whose B is zero is a copy of the base: the null pair without noise."""
    copy = plant(tmp_path / "copy", 0)
    weights = load_file(copy / adapters.WEIGHTS)
    save_file({name: w * ("lora_A" in name) for name, w in weights.items()}, copy / adapters.WEIGHTS, metadata={"format": "pt"})
    assert subjects.load("smollm2", adapter=str(copy), store=False).option_logprobs(ASKED) == smollm2.option_logprobs(ASKED)


def test_a_sweep_loads_the_base_once(planted, monkeypatch, smollm2):
    loads = []
    original = subjects._weights.__wrapped__
    monkeypatch.setattr(subjects, "_weights", subjects.lru_cache(maxsize=2)(lambda *a: (loads.append(a), original(*a))[1]))
    scores = [subjects.load("smollm2", adapter=str(planted[k % 2]), store=False).option_logprobs(ASKED) for k in range(20)]
    assert len(loads) == 1 and scores[0] == scores[18] != scores[1] == scores[19]


def test_a_name_carries_its_adapter(planted):
    name = f"smollm2+{planted[0]}"
    assert subjects.load(name, store=False).option_logprobs(ASKED) == subjects.load(
        "smollm2", adapter=str(planted[0]), store=False
    ).option_logprobs(ASKED)
    assert subjects.revision(name) != subjects.revision(f"smollm2+{planted[1]}") != subjects.revision("smollm2")


def test_an_organism_is_found_by_its_name(planted, tmp_path, monkeypatch):
    (tmp_path / "organisms").mkdir()
    (tmp_path / "organisms" / "planted-s0").symlink_to(planted[0])
    monkeypatch.setenv("FUNCTIONAL_SELF_CACHE", str(tmp_path))
    assert adapters.locate("planted-s0") == str(planted[0].resolve())


def test_an_adapter_trained_anew_in_the_same_place_is_read_anew(tmp_path):
    folder = plant(tmp_path / "one", 0)
    before = subjects.load("smollm2", adapter=str(folder), store=False)
    first = before.option_logprobs(ASKED)
    plant(folder, 1)
    assert subjects.load("smollm2", adapter=str(folder), store=False).option_logprobs(ASKED) != first
    assert before.option_logprobs(ASKED) == first


def test_what_does_not_fit_is_refused_in_one_line(tmp_path, planted):
    other = plant(tmp_path / "other", 0, base_model_name_or_path="google/gemma-3-270m")
    wide = plant(tmp_path / "wide", 0, target_modules=["nowhere"])
    pickled = plant(tmp_path / "pickled", 0)
    (pickled / adapters.WEIGHTS).rename(pickled / "adapter_model.bin")
    cut = plant(tmp_path / "cut", 0)
    (cut / adapters.WEIGHTS).write_bytes((cut / adapters.WEIGHTS).read_bytes()[:-100])
    renamed = plant(tmp_path / "renamed", 0)
    (renamed / adapters.WEIGHTS).write_bytes((planted[0] / adapters.CONFIG).read_bytes())
    for name, word in (
        (f"smollm2+{cut}", "truncated"),
        (f"smollm2+{renamed}", "no safetensors"),
        (f"smollm2+{other}", "gemma-3-270m"),
        (f"smollm2+{wide}", "does not fit"),
        (f"smollm2+{pickled}", "pickled"),
        ("smollm2+nobody", "unknown"),
        (f"mock:planted+{planted[0]}", "trained weights"),
    ):
        with pytest.raises(SubjectError, match=word) as error:
            subjects.load(name, store=False)
        assert "\n" not in str(error.value)


def test_a_host_elsewhere_needs_the_adapter_on_the_hub():
    with pytest.raises(SubjectError, match="functional-self push"):
        adapters.remote("smollm2+x", "/somewhere/x", "https://api.ndif.us")
    assert adapters.remote("smollm2+x", "me/x", "https://api.ndif.us") == "me/x"


def test_an_organism_that_does_not_ship_is_known_by_its_card_and_not_loaded_before_it_is_trained(tmp_path, monkeypatch):
    monkeypatch.setenv("FUNCTIONAL_SELF_CACHE", str(tmp_path))
    unshipped = "smollm2+interpreter-s11"
    subjects.resolve(unshipped)  # a published run may name it
    card = json.loads((paths.root() / "organisms" / "cards" / "interpreter-s11.json").read_text())
    assert subjects.identity(unshipped, "local", trained=False).endswith(f"adapter sha256:{card['adapter']}")
    with pytest.raises(SubjectError, match="functional-self organisms train interpreter-s11"):
        subjects.identity(unshipped, "local")
    shipped = "smollm2+interpreter-s0"
    assert subjects.identity(shipped, "local") == subjects.identity(shipped, "local", trained=False)
    with pytest.raises(SubjectError, match="unknown"):
        subjects.resolve("smollm2+interpreter-s99")


def test_an_adapter_goes_to_a_hub_by_one_command(planted, hub, tmp_path):
    """What lies beside the adapter stays at home."""
    (planted[0] / "notes.txt").write_text("not for others")
    done = cli_here("push", str(planted[0]), "--to", "me/mine")
    assert done.returncode == 0 and done.stdout.strip() == "hub/me/mine", done.stderr
    there = hub / "me" / "mine"
    assert {path.name for path in there.iterdir()} >= {adapters.CONFIG, adapters.WEIGHTS} and not (there / "notes.txt").exists()
    refused(cli_here("push", str(tmp_path / "nothing"), "--to", "me/mine"), "nothing")
