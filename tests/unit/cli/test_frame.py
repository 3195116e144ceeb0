"""Sections on screens of any size: what does not fit is cut and counted."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from voiceops.cli.frame import Line, Section, Span, cut, fit, in_columns, line_width, shown_text, width_of


def line(text: str) -> Line:
    return (Span(text),)


def text_of(lines: list[Line]) -> list[str]:
    return ["".join(span.text for span in one) for one in lines]


def section(name: str, count: int, rank: int = 0, least: int = 1) -> Section:
    rows = [line(f"{name}{number}") for number in range(count)]
    return Section(head=line(name), rows=rows, rank=rank, least=least)


def test_what_fits_is_shown_whole_with_a_blank_line_between_sections() -> None:
    shown = fit([section("a", 2), section("b", 1)], width=20, height=6)
    assert text_of(shown) == ["a", "a0", "a1", "", "b", "b0"]


def test_blank_lines_go_before_rows_do() -> None:
    shown = fit([section("a", 2), section("b", 1)], width=20, height=5)
    assert text_of(shown) == ["a", "a0", "a1", "b", "b0"]


def test_rows_that_do_not_fit_are_counted() -> None:
    shown = fit([section("a", 9)], width=20, height=4)
    assert text_of(shown) == ["a", "a0", "a1", "  ... 7 more"]


def test_a_section_without_any_row_says_how_many_are_not_shown() -> None:
    shown = fit([section("a", 2, least=2), section("b", 3, rank=1)], width=30, height=4)
    assert text_of(shown) == ["a", "a0", "a1", "b  (3 not shown)"]


def test_sections_of_a_lower_rank_get_their_rows_first() -> None:
    shown = fit([section("a", 9, rank=2), section("b", 2, rank=1, least=2)], width=20, height=6)
    assert text_of(shown) == ["a", "a0", "  ... 8 more", "b", "b0", "b1"]


def test_a_screen_with_fewer_lines_than_sections_shows_those_of_the_lowest_rank() -> None:
    shown = fit([section("a", 1, rank=3), section("b", 0, rank=1)], width=20, height=1)
    assert text_of(shown) == ["b"]


def test_without_a_limit_everything_is_shown() -> None:
    shown = fit([section("a", 200), section("b", 3)], width=None, height=None)
    assert len(shown) == 205


def test_a_line_that_is_too_wide_ends_in_dots() -> None:
    assert text_of([cut(line("a caller's long name"), 10)]) == ["a calle..."]
    assert text_of([cut(line("abc"), 2)]) == [".."]


def test_wide_characters_take_two_columns_and_combining_ones_none() -> None:
    assert width_of("電話") == 4
    assert width_of("e\u0301") == 1
    assert line_width(cut(line("電話電話電話"), 8)) <= 8


def test_columns_line_up_where_characters_are_wide() -> None:
    rows = [[Span("電話"), Span("1")], [Span("abc"), Span("22")]]
    assert text_of(in_columns(rows, right=(1,))) == ["電話   1", "abc   22"]


def test_a_column_without_text_is_left_out_and_the_last_one_is_not_padded() -> None:
    rows = [[Span("a"), Span(""), Span("long")], [Span("b"), Span(""), Span("x")]]
    assert text_of(in_columns(rows)) == ["a  long", "b  x"]


def test_names_of_others_are_one_line_that_draws_nothing() -> None:
    assert shown_text("a\n\tb\x1b[2J\u202e") == "a b\\x1b[2J\\u202e"


texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 5), st.integers(0, 9), texts), min_size=1, max_size=6
    ),
    st.integers(1, 40),
    st.integers(0, 30),
)
def test_no_screen_gets_more_than_it_has_room_for(
    made: list[tuple[int, int, int, str]], width: int, height: int
) -> None:
    sections = [
        Section(head=line(f"s{index}"), rows=[line(text)] * count, rank=rank, least=least)
        for index, (count, rank, least, text) in enumerate(made)
    ]
    shown = fit(sections, width=width, height=height)
    assert len(shown) <= height
    assert all(line_width(one) <= width for one in shown)


@given(st.integers(1, 40), st.integers(2, 30))
def test_shown_and_counted_rows_are_all_rows(count: int, height: int) -> None:
    shown = text_of(fit([section("row", count)], width=80, height=height))[1:]
    more = re.search(r"\.\.\. (\d+) more", shown[-1])
    assert sum(one.startswith("row") for one in shown) + (int(more[1]) if more else 0) == count
