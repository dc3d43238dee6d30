"""Numbers in prose have a record, statements a named subject, and figures their n; code, years and questions are left alone."""

from __future__ import annotations

import pytest
from functional_self.figures import to_svg
from functional_self.runs.lint import figure, generalisations, numbers
from matplotlib.figure import Figure


@pytest.mark.parametrize(
    "text",
    [
        "The index is 0.42.",
        "It was .5 of them.",
        "We asked 60 items.",
        "Some 30% agreed, or 30 %.",
        "- a list with 7 things",
        "| a | b |\n|---|---|\n| x | 12.5 |",
        "> quoted 3 times",
        "# A heading with 4",
        "$V = 0.3$",
        "$$\nV = 1.25\n$$",
        "```{note}\nThere are 9 things.\n```",
        "```{note} About 8\ntext\n```",
        "**-3** is bold",
    ],
)
def test_literal_numbers_are_found(text):
    assert list(numbers(text))


@pytest.mark.parametrize(
    "text",
    [
        "It is {glue:text}`index:.2f` [see {cite:p}`holm1979simple`].",
        "Published in 2025, in chapter 3 and Section 2, and chapters 1, 2 and 4.",
        "Claude 3 Opus and GPT 4 are names.",
        "SmolLM2-135M-Instruct passed G1 to G5 on two cores.",
        "`0.5` is code.",
        "```python\nx = 0.5\n```",
        "```{code-cell} ipython3\nx = 0.5\n```",
        "$x^2 + \\frac{1}{2}$",
        "[a link](../page-2.html) and <https://example.org/12>",
        "1. an ordered list",
        "---\nversion: 0.13\n---\ntext",
    ],
)
def test_what_is_no_result_is_left_alone(text):
    assert list(numbers(text)) == []


def test_the_line_is_right():
    assert list(numbers("one\n\ntwo is 2\nthree is 3.5\n")) == [(3, "2"), (4, "3.5")]


@pytest.mark.parametrize(
    "text",
    [
        "Models express values.",
        "In this book, language models have a persistent self.",
        "LLMs cannot know.",
        "Large base models often converge on a device.",
        "It was seen. Chat assistants are polite.",
        "- Instruction-tuned models always agree",
        "| a | b |\n|---|---|\n| x | Language models seem stable |",
        "```{note}\nModels want nothing.\n```",
    ],
)
def test_statements_about_models_at_large_are_found(text):
    assert list(generalisations(text))


@pytest.mark.parametrize(
    "text",
    [
        "Do language models have a self?",
        "The discussion holds that models express values.",
        "If models agree, there may be one source.",
        "SmolLM2-135M-Instruct and other models are small.",
        "Language models have been called simulators {cite:p}`janus2022simulators`.",
        "These models are the smallest.",
        "Answers of base models are scored.",
        "The models of this page are small.",
        "> Models are strange, a reader writes.",
        "A model must fill the void.",
        "```python\n# models are objects\n```",
    ],
)
def test_questions_conditions_claims_and_named_subjects_are_left_alone(text):
    assert list(generalisations(text)) == []


def test_a_generalisation_is_named_with_its_line():
    assert list(generalisations("one\n\ntwo.\nModels have values. Three.\n")) == [(4, "Models have values.")]


def drawn(folder, label="share", title="", alt="Two panels of shares, n = 12 items, with 95% intervals."):
    """A figure of two panels as a run keeps it; the second panel has the label and the title."""
    picture = Figure()
    first, second = picture.subplots(2)
    first.set_title("shares")
    second.set_xlabel(label)
    second.set_title(title)
    path = folder / "shares.svg"
    path.write_text(to_svg(picture, "shares", alt))
    return path


def test_a_figure_that_says_what_it_shows_passes(tmp_path):
    assert figure(drawn(tmp_path)) == []
    assert figure(drawn(tmp_path, label="", title="share")) == []
    assert figure(drawn(tmp_path, label="share (n = 12)", alt="Two panels of shares: counts, which have no interval.")) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"label": ""}, "axis label"),
        ({"alt": "n = 12, intervals"}, "description"),
        ({"alt": "Two panels of shares, of all items, with 95% intervals."}, "how many"),
        ({"alt": "Two panels of shares, n = 12 items, and nothing said of error."}, "interval"),
    ],
)
def test_a_figure_that_does_not_is_named_with_what_it_lacks(tmp_path, changes, word):
    [said] = figure(drawn(tmp_path, **changes))
    assert "shares.svg" in said and word in said


@pytest.mark.parametrize("text", ["<svg", "<!DOCTYPE svg [<!ENTITY a 'b'>]><svg>&a;</svg>", ""])
def test_a_file_that_is_no_figure_is_one_line(tmp_path, text):
    (tmp_path / "odd.svg").write_text(text)
    [said] = figure(tmp_path / "odd.svg")
    assert "odd.svg" in said and "show_figure" in said and "\n" not in said
