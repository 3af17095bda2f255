"""What Prometheus reads, read by its own parser."""

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from mdnp.measures import BUCKETS_S, Counter, Family, Histogram, Measures, expose


def parsed(text: bytes) -> dict[str, Metric]:
    return {one.name: one for one in text_string_to_metric_families(text.decode())}


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """The values by name and labels."""
    found = [sample for metric in parsed(text).values() for sample in metric.samples]
    return {(one.name, *one.labels.values()): one.value for one in found}


def test_a_counter_grows_and_shows_a_zero_before() -> None:
    errors = Counter("errors_total", "Errors.", "verb")
    errors.prepare("Join")
    errors.add("Leave")
    errors.add("Leave", by=2)

    assert samples(expose([errors])) == {("errors_total", "Join"): 0, ("errors_total", "Leave"): 3}
    assert (errors.value("Leave"), errors.value("nobody")) == (3, 0)


def test_one_without_labels_is_there_from_the_start() -> None:
    shown = samples(expose([Counter("a_total", "A."), Histogram("b_seconds", "B.")]))

    assert (shown["a_total",], shown["b_seconds_count",]) == (0, 0)


def test_a_histogram_counts_up_to_each_bound() -> None:
    times = Histogram("time_seconds", "Time.", "verb")
    for seconds in (0.0001, 0.0005, 0.003, 0.003, 20.0):
        times.observe(seconds, "Join")

    shown = samples(expose([times]))

    buckets = {labels[-1]: value for labels, value in shown.items() if labels[0] == "time_seconds_bucket"}
    assert list(buckets) == [*(f"{bound:g}" for bound in BUCKETS_S), "+Inf"]
    assert [buckets[bound] for bound in ("0.0005", "0.001", "0.0025", "0.005", "10", "+Inf")] == [2, 2, 2, 4, 4, 5]
    assert shown["time_seconds_count", "Join"] == times.count("Join") == 5
    assert shown["time_seconds_sum", "Join"] == pytest.approx(20.0066)


def test_every_kind_has_its_help_and_its_type() -> None:
    metrics: list[Family | Counter | Histogram] = [
        Family("now", "gauge", "How it is.", (), {(): 1.5}),
        Counter("ever_total", "How often\nit was \\."),
        Histogram("long_seconds", "How long."),
    ]

    shown = parsed(expose(metrics))

    assert {name: (one.type, one.documentation) for name, one in shown.items()} == {
        "now": ("gauge", "How it is."),
        "ever": ("counter", "How often\nit was \\."),
        "long_seconds": ("histogram", "How long."),
    }


@pytest.mark.parametrize("text", ["plain", 'a "quoted" one', "back\\slash", "two\nlines", "", "käse", "a,b={}"])
def test_any_text_is_a_label(text: str) -> None:
    family = Family("named", "gauge", "Of a name.", ("name",), {(text,): 1})

    assert samples(expose([family])) == {("named", text): 1}


def test_text_that_is_no_utf_8_does_no_harm() -> None:
    family = Family("named", "gauge", "Of a name.", ("name",), {("\udcff",): 1})

    assert samples(expose([family])) == {("named", "?"): 1}


@pytest.mark.parametrize("value", [0, 1, True, 0.5, -3, 2**64, 1e-9, 1764077621.25, 123456789012345])
def test_a_number_is_read_as_it_was_meant(value: float) -> None:
    assert samples(expose([Family("number", "gauge", "One.", (), {(): value})])) == {("number",): value}


def test_everything_that_is_counted_is_read_without_fault_and_its_names_are_one_each() -> None:
    metrics = Measures().metrics()

    shown = parsed(expose(metrics))

    assert len(shown) == len({one.name for one in metrics}) == len(metrics)
    assert all(name.startswith("mdnp_") for name in shown)
