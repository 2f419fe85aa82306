"""What the reports share: a table is read column by column."""

import re

from tinycohort.experiments.engine.page import render

PAGE = '{% extends "shell" %}{% from "parts" import table %}{% block body %}{{ table(header, rows) }}{% endblock %}'


def test_a_column_of_words_is_aligned_as_one_with_its_heading():
    rows = [("a", "short", 1.5), ("b", "so long that nobody would read it in a column of numbers", 2)]
    page = render(PAGE, title="A table", header=["name", "told", "value"], rows=rows)
    cells = re.findall(r"<(t[hd])( class=\"words\")?>(.*?)</", page)
    assert [text for _, _, text in cells] == ["name", "told", "value", *map(str, rows[0]), *map(str, rows[1])]
    assert [bool(words) for _, words, _ in cells] == [False, True, False] * 3


def test_a_table_without_rows_has_its_heading():
    assert re.findall(r"<th>(.*?)</th>", render(PAGE, title="A table", header=["name"], rows=[])) == ["name"]
