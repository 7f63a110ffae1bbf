import pytest

from gvtnets_tf.images.metadata import convert_step


@pytest.mark.parametrize(
    "letter, value, unit, size",
    [
        ("X", "100", "nm", 0.1),
        ("Y", 2, "\\u00B5m", 2.0),
        ("Z", 2, "μm", 2.0),  # Greek mu
        ("Z", 0.5, "Micron", 0.5),
        ("T", 250, "ms", 0.25),
        ("T", 1, "µm", None),
        ("Z", 0, "µm", None),
        ("Z", None, "µm", None),
        ("Z", "inf", "µm", None),
    ],
)
def test_steps_are_micrometers_and_seconds(letter, value, unit, size):
    assert convert_step(letter, value, unit) == (size and pytest.approx(size))
