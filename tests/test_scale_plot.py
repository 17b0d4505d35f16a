"""The plot of docs/scale.md shows the table that stands beside it."""

from benchmarks.scale_plot import PAGE, PLOT, ROW, plot


def test_plot_is_of_the_table_on_the_page() -> None:
    page = PAGE.read_text()
    assert [objects for objects, *_ in ROW.findall(page)] == ["100", "1,000", "10,000", "100,000"]
    assert plot(page) == PLOT.read_text()
