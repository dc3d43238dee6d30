"""Numbers in prose have a record; code, years, names and generated numbers are left alone."""

from __future__ import annotations

import pytest

from functional_self.runs.lint import numbers


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
        "Published in 2025, in chapter 3 and Section 2.",
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
