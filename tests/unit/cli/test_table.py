from __future__ import annotations

import pytest

from muster.cli.table import printable, show_table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("acme/tiny ü 模型", "acme/tiny ü 模型"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\t", "a\\nb\\t"),
        ("\udc80", "\\udc80"),
    ],
)
def test_what_a_terminal_would_act_upon_is_spelled_out(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_columns_align_and_lines_have_no_trailing_spaces(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_table(["NAME", "N"], [["a", "1"], ["longer", ""]])
    assert capsys.readouterr().out == "NAME    N\na       1\nlonger\n"


def test_markup_and_line_breaks_in_a_cell_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_table(["NAME"], [["[red]x[/red]\n"]])
    assert capsys.readouterr().out == "NAME\n[red]x[/red]\\n\n"
