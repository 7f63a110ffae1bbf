"""A stand-in for TensorFlow Serving, to try a client where the real server cannot be had.

    python stand_in.py FOLDER [--model NAME] [--grpc PORT] [--rest PORT]

It answers the same `Predict` requests: over gRPC by the official protos, and over REST in the
columnar form (`inputs`). FOLDER holds the folder of a version, `1`, as `gvtnets export --format
savedmodel` writes it; its warm-up requests are answered first. One model, one request at a
time, no batching, no safety: not for use. Needs `tensorflow`, `grpcio` and
`tensorflow-serving-api`, and not gvtnets_tf.
"""

import argparse
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

REQUESTS = "assets.extra/tf_serving_warmup_requests"
REFUSED = (tf.errors.InvalidArgumentError, ValueError, TypeError, KeyError)


class Model:
    """The newest version in a folder."""

    def __init__(self, folder, name):
        self.name = name
        self.version = max(
            (p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name)
        )
        self.loaded = tf.saved_model.load(str(self.version))

    def warm_up(self):
        """Answer the requests that came with the model; return how many there were."""
        file = self.version / REQUESTS
        records = list(tf.data.TFRecordDataset(str(file))) if file.exists() else []
        for record in records:
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            self.answer(log.predict_log.request)
        return len(records)

    def answer(self, request):
        """A `PredictResponse` to a `PredictRequest`."""
        response = predict_pb2.PredictResponse()
        inputs = {name: tf.make_ndarray(x) for name, x in request.inputs.items()}
        for name, y in self.run(request.model_spec.signature_name, inputs).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(y))
        return response

    def run(self, signature, inputs):
        graph = self.loaded.signatures[signature or "serving_default"]
        found = graph(**{name: tf.constant(x) for name, x in inputs.items()})
        return {name: y.numpy() for name, y in found.items()}


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, model):
        self.model = model

    def Predict(self, request, context):  # noqa: N802 - the name in the protos
        if request.model_spec.name != self.model.name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model_spec.name}")
        try:
            return self.model.answer(request)
        except REFUSED as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


class Handler(BaseHTTPRequestHandler):
    model = None

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != f"/v1/models/{self.model.name}:predict":
            return self.reply(404, {"error": f"nothing at {self.path}"})
        try:
            inputs = {name: np.asarray(x, np.float32) for name, x in body["inputs"].items()}
            found = self.model.run(body.get("signature_name"), inputs)
        except REFUSED as error:
            return self.reply(400, {"error": str(error)})
        outputs = {name: y.tolist() for name, y in found.items()}
        one = len(outputs) == 1
        self.reply(200, {"outputs": next(iter(outputs.values())) if one else outputs})

    def reply(self, status, content):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *args):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="denoiser", help="name to serve it under")
    parser.add_argument("--grpc", type=int, default=8500, metavar="PORT", help="0: any free one")
    parser.add_argument("--rest", type=int, default=8501, metavar="PORT", help="0: any free one")
    args = parser.parse_args()
    model = Model(args.folder, args.model)
    warm = model.warm_up()
    limits = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
    server = grpc.server(ThreadPoolExecutor(1), options=limits)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(model), server)
    port = server.add_insecure_port(f"localhost:{args.grpc}")
    server.start()
    Handler.model = model
    rest = HTTPServer(("localhost", args.rest), Handler)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    ready = {"grpc": port, "rest": rest.server_port, "warmed_up": warm}
    print(json.dumps(ready), flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
