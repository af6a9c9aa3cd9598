"""Networks: factory, weights, inference, Grad-CAM, ONNX export."""
