"""Forms of a deployed network: compared with torch's on labelled patches."""

import numpy as np
import pytest
import torch

from her2pipe.errors import Her2Error
from her2pipe.models import deployment


def test_a_file_that_is_not_the_network_is_refused():
    images = torch.tensor([[[[0.0]]], [[[2.0]]], [[[-1.0]]]])
    labels, size = np.array([0, 1, 1]), deployment.NetworkSize(1, 0, 0, 0)

    def network(images):
        logits = torch.cat([torch.zeros(3, 1), images.flatten(1)], 1)
        return logits, logits.softmax(1)

    def off_by(difference):
        return lambda images: tuple(
            part.numpy() for part in network(torch.tensor(images - difference))
        )

    def forms(full, rough):
        runners = {"onnx": off_by(full), "int8": off_by(rough)}
        return deployment.DeployedNetwork("n", network, runners, size, {})

    found = deployment.compare_forms(forms(1e-5, 2.5), [images], labels, 1e-4)
    # classes 0 (a tie), 1, 0 of labels 0, 1, 1; eight bits lose the second
    assert found["torch"] == deployment.Fidelity(accuracy=2 / 3, agreement=1, difference=0)
    assert found["int8"].accuracy == pytest.approx(1 / 3)
    assert found["int8"].agreement == pytest.approx(2 / 3)
    assert found["int8"].difference == pytest.approx(2.5)
    assert found["onnx"].difference == pytest.approx(1e-5, rel=0.1)
    with pytest.raises(Her2Error, match="the ONNX file is not the network"):
        deployment.compare_forms(forms(1e-2, 0), [images], labels, 1e-4)
