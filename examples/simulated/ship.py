"""Put the trained denoiser into `pretrained/`, with an expected output.

    python examples/simulated/ship.py runs/simulated/denoiser

Beside the model folder lies `expected.npz`: a simulated noisy stack, and its prediction, for a
test of the weights.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np

from gvtnets_tf.data.synthetic import cells
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.training.recipe import Recipe
from gvtnets_tf.zoo import model_folder

NAME = "simulated_denoiser"
PRETRAINED = Path(__file__).resolve().parents[2] / "pretrained"
SHAPE, SEED = (8, 32, 32), 90_003


def main(args):
    model, card = model_folder.read_model(args.model)
    card = card.changed(
        provenance="examples/simulated: prepare.py, denoiser.yaml, ship.py of gvtnets_tf 0.1.0",
        license="BSD-3-Clause",
        input_channels=("noisy",),
        output_channels=("denoised",),
    )
    out = PRETRAINED / NAME
    out.mkdir(parents=True, exist_ok=True)
    model_folder.save_model(out, model, card)
    recipe = Recipe.load(args.model / "recipe.yaml")
    recipe = recipe.changed(data={"root": "../../runs/simulated/data"})
    (out / "recipe.yaml").write_text(recipe.dump())
    shutil.copy(args.model / "history.csv", out)
    noisy, _ = cells.simulate_pair("denoising", SHAPE, SEED)
    prediction = Predictor(model, card)(noisy.numpy(), "ZYX")
    np.savez_compressed(out / "expected.npz", input=noisy.numpy(), output=prediction)
    print(out)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("model", type=Path, help="model folder that `gvtnets train` made")
    main(p.parse_args())
