"""Send an image to a network that TensorFlow Serving serves, and write what comes back.

    python client.py IMAGE OUT.npy --rest http://localhost:8501 [--model NAME]
    python client.py IMAGE OUT.npy --grpc localhost:8500 [--model NAME]

IMAGE is .npy, or .tif where tifffile is installed: camera counts, with the spatial axes of the
network (z, y, x or y, x), and with `--channels` a last axis of channels. OUT holds the
prediction in the same axes; a predicted uncertainty goes beside it, to OUT_uncertainty.npy.

REST needs NumPy only, but sends numbers as text. gRPC sends bytes, and needs `tensorflow`,
`grpcio` and `tensorflow-serving-api`. Neither needs gvtnets_tf.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

INPUT, RESULT = "image", "prediction"
SIGNATURE = "serving_default"


def rest(url, model, images):
    """Ask over REST.

    Args:
        url: str, e.g. `"http://localhost:8501"`.
        model: str. Name that the server knows.
        images: float32 array `(batch, *grid, channels)`.

    Returns:
        Dict from name to float32 array.

    Raises:
        ValueError: with what the server answers to a request that it refuses.
    """
    body = json.dumps({"signature_name": SIGNATURE, "inputs": {INPUT: images.tolist()}}).encode()
    try:
        with urllib.request.urlopen(f"{url}/v1/models/{model}:predict", body) as answer:
            outputs = json.load(answer)["outputs"]
    except urllib.error.HTTPError as error:
        with error:
            raise ValueError(f"The server says: {error.read().decode()}") from error
    # One result comes as it is, several by name.
    outputs = outputs if isinstance(outputs, dict) else {RESULT: outputs}
    return {name: np.asarray(y, np.float32) for name, y in outputs.items()}


def grpc(address, model, images):
    """Ask over gRPC.

    Args:
        address: str, e.g. `"localhost:8500"`.
        model, images: as in `rest`.

    Returns, Raises:
        As `rest`.
    """
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, SIGNATURE
    request.inputs[INPUT].CopyFrom(tf.make_tensor_proto(images))
    # By default a message may have 4 MB, less than most stacks.
    limits = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
    with grpc.insecure_channel(address, options=limits) as channel:
        service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            answer = service.Predict(request, timeout=600)
        except grpc.RpcError as error:
            raise ValueError(f"The server says: {error.details()}") from error
    return {name: tf.make_ndarray(y) for name, y in answer.outputs.items()}


def read(path):
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    import tifffile

    return tifffile.imread(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="denoiser", help="name that the server knows")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--rest", metavar="URL")
    where.add_argument("--grpc", metavar="ADDRESS")
    parser.add_argument("--channels", action="store_true", help="the last axis is channels")
    args = parser.parse_args()
    image = read(args.image).astype(np.float32)
    images = image[None] if args.channels else image[None, ..., None]
    try:
        ask, target = (rest, args.rest) if args.rest else (grpc, args.grpc)
        found = ask(target, args.model, images)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    for name, y in found.items():
        end = "" if name == RESULT else f"_{name}"
        out = args.out.with_name(f"{args.out.stem}{end}.npy")
        np.save(out, y[0] if args.channels else y[0, ..., 0])


if __name__ == "__main__":
    main()
