from __future__ import annotations

from tenants import charts

HOURS = [("11:00", 4), ("12:00", 0), ("13:00", 10)]


def test_each_bar_is_as_high_as_its_value_beside_the_highest() -> None:
    drawn = charts.bars(HOURS, label="Events")
    for height in ("40.0", "0.0", "100.0"):
        assert 'class="whole"' in drawn
        assert f'height="{height}"' in drawn
    assert 'aria-label="Events"' in drawn
    assert "marked" not in drawn


def test_the_marked_part_of_a_bar_is_drawn_and_told() -> None:
    drawn = charts.bars(HOURS, label="Events", marked=[2, 0, 0], marked_as="died")
    assert drawn.count('class="marked"') == 1
    assert "<title>11:00: 4, 2 died</title>" in drawn
    assert "<title>12:00: 0</title>" in drawn


def test_what_was_counted_only_so_far_says_so() -> None:
    drawn = charts.bars(HOURS, label="Events", most=10)
    assert "<title>13:00: 10+</title>" in drawn
    assert "<title>11:00: 4</title>" in drawn
    assert '<p aria-hidden="true">10+</p>' in drawn


def test_nothing_is_drawn_of_nothing() -> None:
    assert 'class="whole"' not in charts.bars([], label="Events")
    assert 'height="0"' in charts.bars([("11:00", 0)], label="Events")
