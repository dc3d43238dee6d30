"""Streams of n sources: what is shared is exact, the order seeded, masks say what is left out, what does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from functional_self import activations, subjects
from functional_self.activations import harvest, sources, statistics, stream, streaming
from functional_self.errors import SubjectError
from test_adapters import plant

TALK = [("system", "Be brief."), ("user", "Which is colder, ice or fire?"), ("assistant", "Ice.")]
TEXTS = [
    TALK,
    "Ice is cold, and fire is not.",
    "One, two, three.",
    *(f"Then came the number {i}, and it was odd." for i in range(9)),
]
TWIN = "random:smollm2@2"


@pytest.fixture(scope="module")
def twin():
    return subjects.load(TWIN, store=False)


def test_sources_side_by_side_are_each_sources_own_rows(smollm2, tmp_path):
    """Adapters at layers 3 and 17: above, between and below them, shared lower layers give the rows of separate forwards."""
    organism = subjects.load("smollm2", adapter=str(plant(tmp_path / "adapter", 0)), store=False)
    late = subjects.load("smollm2", adapter="planted-none-s0", store=False)
    for layer in (2, 9):
        three = list(stream([organism, smollm2, late], TEXTS, layer).rows())
        assert [len(rows.x_NK) for rows in three] == [sum(map(len, _described(smollm2)))]
        for part, subject in zip(three[0].x_NK.split(576, dim=1), (organism, smollm2, late), strict=True):
            alone = harvest(subject, TEXTS, layer)
            assert np.abs(part.numpy() - alone.rows_ND).max() <= 1e-6
            assert alone.tokens.drop(columns="outlier").equals(three[0].tokens.drop(columns="outlier"))
        a, b, c = three[0].x_NK.split(576, dim=1)
        assert torch.equal(a, b) == (layer == 2) and torch.equal(b, c) == (layer == 2)


def _described(subject):
    return [activations.tokens.describe(activations.tokens.bare(subject), i, text) for i, text in enumerate(TEXTS)]


def test_lower_layers_are_computed_once():
    base, *late = [subjects.load("smollm2", adapter=name, store=False) for name in (None, "planted-none-s0", "planted-self-a-s0")]
    assert [sources.first_block(one.adapter) for one in late] == [8, 8] and sources.first_block(None) is None
    ran = []
    layers = activations.tokens.module(base).model.layers
    hooks = [
        layers[block]._module.input_layernorm.register_forward_hook(lambda *_, block=block: ran.append(block))
        for block in (0, 7, 8, 9)
    ]
    try:
        list(stream([base, *late], TEXTS, 9).rows())
    finally:
        for hook in hooks:
            hook.remove()
    batches = ran.count(0)
    assert batches and [ran.count(block) for block in (7, 8, 9)] == [batches, 3 * batches, 3 * batches]


def test_batches_are_a_seeded_order_of_all_ordinary_rows(twin, monkeypatch):
    monkeypatch.setattr(streaming, "WINDOW", 32)
    made = stream([twin, twin], TEXTS, 1, batch=16, buffer=48, seed=3)
    batches = list(made)
    again, next_pass, other = list(made(0)), list(made(1)), list(stream([twin, twin], TEXTS, 1, batch=16, buffer=48, seed=4))
    assert all(map(torch.equal, batches, again))
    assert [len(x) for x in batches[:-1]] == [16] * (len(batches) - 1)
    assert not all(map(torch.equal, batches, next_pass)) and not all(map(torch.equal, batches, other))
    kept = torch.cat([streaming.ordinary(rows) for rows in made.rows()])
    for found in (batches, next_pass):
        assert torch.equal(*(x[np.lexsort(x.numpy().T[:3])] for x in (torch.cat(found), kept)))
    assert torch.equal(*torch.cat(batches).split(576, dim=1))


def test_statistics_are_numpys_in_double_precision(twin):
    made = stream([twin], TEXTS, 1)
    found, rows = statistics(made, 1), torch.cat(list(made)).double().numpy()
    assert found.rows == len(rows) and found.mean_K.numpy() == pytest.approx(rows.mean(0), rel=1e-10, abs=1e-12)
    assert float(found.scale_n[0]) == pytest.approx(rows.std(0).__pow__(2).mean() ** 0.5, rel=1e-10)
    shifted = statistics([torch.full((1000, 2), 1e4) + torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).repeat(500, 1)], 2)
    assert shifted.scale_n.tolist() == pytest.approx([1.0, 0.0], abs=1e-3)


def test_outliers_are_marked_counted_and_left_out(twin):
    """A token whose embedding is a thousand times too long is the outlier, wherever it stands."""
    inner = activations.tokens.module(twin)
    (odd,) = inner.tokenizer(" odd", add_special_tokens=False)["input_ids"]
    weight = inner._module.model.embed_tokens.weight
    try:
        weight.data[odd] *= 1000
        made = stream([twin, twin], TEXTS, 0)
        (rows,) = made.rows()
        batch = torch.cat(list(made))
    finally:
        weight.data[odd] /= 1000
    outlier = rows.tokens["outlier"].to_numpy()
    assert (outlier == (rows.tokens["token"] == odd)).all() and outlier.sum() == 9
    assert made.outlier_share == pytest.approx(9 / len(outlier))
    assert len(batch) == len(outlier) - (outlier | rows.tokens["first"]).sum()


def test_roles_are_chosen_and_named(twin):
    (rows,) = stream([twin], TEXTS, 0, roles=["assistant"], template=False).rows()
    assert set(rows.tokens["role"]) == {"assistant"} and set(rows.tokens["text"]) == {0}
    with pytest.raises(SubjectError, match="role 'host' is unknown; accepted are system, user, assistant, text"):
        stream([twin], TEXTS, 0, roles=["host"])


class Other:
    """A subject's tokenizer with another idea of a text."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, text, **how):
        return self.tokenizer(text.replace("Ice", "Snow"), **how)

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)


def test_what_does_not_fit_is_one_line(twin, smollm2, monkeypatch):
    with pytest.raises(SubjectError, match="subject 'random:smollm2@2': layer 2 is not there; it has layers 0 to 1"):
        stream([smollm2, twin], TEXTS, 2)
    with pytest.raises(SubjectError, match="'mock:planted' is simulated"):
        stream([subjects.load("mock:planted")], TEXTS, 0)
    with pytest.raises(SubjectError, match="no source is named"):
        stream([], TEXTS, 0)
    inner = activations.tokens.module(twin)
    with monkeypatch.context() as patched:
        patched.setattr(inner.config, "hidden_size", 12)
        with pytest.raises(SubjectError, match="'random:smollm2@2': rows are 12 wide, those of 'smollm2' 576"):
            stream([smollm2, twin], TEXTS, 0)
    with monkeypatch.context() as patched:
        patched.setattr(inner, "tokenizer", Other(inner.tokenizer))
        with pytest.raises(SubjectError, match="text 1: 'smollm2' and 'random:smollm2@2' read other tokens from position 0"):
            list(stream([smollm2, twin], ["One.", TEXTS[1]], 0))
    weight = inner._module.model.layers[1].mlp.down_proj.weight
    kept = weight.detach().clone()
    try:
        weight.data[0, 0] = float("nan")
        with pytest.raises(SubjectError, match="'random:smollm2@2': layer 1 is not finite at token 0 of text 0"):
            list(stream([smollm2, twin], TEXTS, 1))
    finally:
        weight.data.copy_(kept)
    with pytest.raises(SubjectError, match="no rows, so no statistics"):
        statistics(stream([twin], TEXTS[1:], 0, roles=["user"], template=False), 1)
