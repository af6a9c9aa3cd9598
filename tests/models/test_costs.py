"""Costs of networks: counted by hand, timed in turn."""

import pytest
import torch

from her2pipe.models import costs


def test_multiply_adds_by_hand():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),  # 5 x 5 x 8 of 27 each
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(200, 4),
    )
    assert costs.multiply_adds(model, 10) == 5 * 5 * 8 * 27 + 200 * 4


def test_latency_is_the_median_and_turns_are_interleaved():
    now, order = [0.0], []

    def call(name, times):
        def run():
            now[0] += times[min(sum(n == name for n in order), len(times) - 1)]
            order.append(name)

        return run

    warm = [9.0] * costs.WARM_UP_RUNS
    calls = {"a": call("a", [*warm, 0.001, 0.5, 0.002]), "b": call("b", [0.004])}
    found = costs.latencies_ms(calls, 3, clock=lambda: now[0])
    assert found == pytest.approx({"a": 2.0, "b": 4.0})
    assert order[:4] == ["a", "b", "a", "b"]


def test_cuts_are_measured():
    whole, cut = costs.measure_cuts("resnet10t", 3, 64, [0, 3], ["layer1", "layer4"])
    assert (whole.stages, whole.stage, whole.output) == (0, "", "2x2x512")
    assert (cut.stages, cut.stage, cut.output) == (3, "layer2", "8x8x128")
    assert whole.with_statistics > whole.parameters.total > whole.parameters.trainable
    assert 0 < cut.parameters.trainable < cut.parameters.total < whole.parameters.total
