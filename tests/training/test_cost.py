"""What a run costs is said once, on a line of its own."""

import logging
import sys
import types

import pytest

from gvtnets_tf.training import cost


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes by hand, a process of 1.5 GB and no accelerator."""
    now = types.SimpleNamespace(time=0.0)
    monkeypatch.setattr(cost.time, "perf_counter", lambda: now.time)
    info = types.SimpleNamespace(memory_info=lambda: types.SimpleNamespace(rss=1_500_000_000))
    monkeypatch.setattr(cost.psutil, "Process", lambda: info)
    monkeypatch.setattr(cost, "measure_accelerator", lambda: 0)
    return now


def run(tell, clock, epochs, steps, first=100.0, step=0.5):
    for epoch in range(epochs):
        clock.time += first  # a validation, or tracing
        tell.on_epoch_begin(epoch)
        for batch in range(steps):
            clock.time += step
            tell.on_train_batch_end(batch, {})


def read_messages(caplog):
    return [record.message for record in caplog.records]


def test_after_ten_steps_the_cost_is_said_once(clock, caplog, capsys):
    caplog.set_level(logging.INFO, "gvtnets_tf")
    tell = cost.TellCost(1000)
    run(tell, clock, 1, 10)
    assert read_messages(caplog) == []
    tell = cost.TellCost(1000)
    run(tell, clock, 3, 30)
    # Ten steps after the first: 989 are left.
    assert read_messages(caplog) == ["2 steps/s, 8 min to the end, 1.5 GB"]
    assert caplog.records[0].levelname == "INFO"
    assert capsys.readouterr().out == ""


def test_what_lies_between_epochs_is_no_step(clock, caplog):
    caplog.set_level(logging.INFO, "gvtnets_tf")
    run(cost.TellCost(61), clock, 20, 3)
    assert read_messages(caplog) == ["2 steps/s, 23 s to the end, 1.5 GB"]


def test_the_line_of_the_progress_bar_is_ended_first(clock, caplog, capsys):
    caplog.set_level(logging.INFO, "gvtnets_tf")
    tell = cost.TellCost(60)
    tell.set_params({"verbose": 1})
    run(tell, clock, 1, 11)
    assert (len(read_messages(caplog)), capsys.readouterr().out) == (1, "\n")


@pytest.mark.parametrize(
    "seconds, steps, text",
    [
        (0.08, 100, "12.5 steps/s, 8 s to the end, 0.3 GB"),
        (0.08, 10_500, "12.5 steps/s, 14 min to the end, 0.3 GB"),
        (20, 576, "0.05 steps/s, 3.2 h to the end, 0.3 GB"),
    ],
)
def test_times_have_units_that_fit(clock, seconds, steps, text):
    assert cost.describe_cost(seconds, steps, 310_000_000) == text


LIBRARIES = {
    "tensorflow": {
        "config": types.SimpleNamespace(
            list_logical_devices=lambda kind: [kind],
            experimental=types.SimpleNamespace(get_memory_info=lambda name: {"peak": 7}),
        )
    },
    "torch": {
        "cuda": types.SimpleNamespace(is_available=lambda: True, max_memory_allocated=lambda: 7)
    },
    "jax": {
        "local_devices": lambda: [
            types.SimpleNamespace(memory_stats=lambda: {"peak_bytes_in_use": 7})
        ]
    },
}


@pytest.mark.parametrize("backend", LIBRARIES)
def test_the_memory_of_an_accelerator_is_that_of_its_library(monkeypatch, backend):
    monkeypatch.setattr(cost.keras.backend, "backend", lambda: backend)
    monkeypatch.setitem(sys.modules, backend, types.SimpleNamespace(**LIBRARIES[backend]))
    assert cost.measure_accelerator() == 7
    monkeypatch.setattr(cost, "measure_accelerator", lambda: 2_000_000_000)
    text = cost.describe_cost(1, 10, 310_000_000)
    assert text == "1 steps/s, 10 s to the end, 0.3 GB, 2.0 GB of the accelerator"


def test_without_an_accelerator_its_memory_is_not_named():
    assert cost.measure_accelerator() == 0
