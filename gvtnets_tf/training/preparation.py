"""From a recipe to what a training run needs: the network, the pairs, a card."""

import inspect
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gvtnets_tf.checks import quote
from gvtnets_tf.data.training_pairs import TrainingPair, open_pairs, split_pairs
from gvtnets_tf.images.normalization import Affine, Normalizer
from gvtnets_tf.models.base import ImageModel
from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.models.losses import CLASSES, MASKED, PROBABILISTIC
from gvtnets_tf.models.presets import PRESETS, preset
from gvtnets_tf.models.projection import ProjectionGVTNet
from gvtnets_tf.training.recipe import PRECISIONS, Recipe
from gvtnets_tf.zoo.card import Card

SUMMARY = ("steps", "batch_size", "patch_size", "loss", "seed")  # of a recipe, for the card


def build_network(recipe: Recipe, channels: Sequence[int]) -> ImageModel:
    """Make the network of a recipe for these numbers of input and target channels, if it fits.

    Its layers compute in `recipe.precision`; its weights and heads are float32.
    """
    arguments, cls = recipe.arguments, recipe.model_class
    arguments["dtype"] = PRECISIONS[recipe.precision]
    projects = cls is ProjectionGVTNet
    head = dict(arguments.get("restoration") or {}) if projects else arguments
    if head.setdefault("out_channels", channels[1]) != channels[1]:
        raise ValueError(
            f"The targets have {channels[1]} channels. Received: "
            f"out_channels={head['out_channels']}."
        )
    _fit_to_loss(head, GVTNet if projects else cls, recipe.loss)
    if projects:
        published = PRESETS["projection"].config["restoration"] if recipe.preset else {}
        arguments["restoration"] = {**published, **head}
    model = preset(recipe.preset, **arguments) if recipe.preset else cls(**arguments)
    # Before its weights are made: each level more makes them eight times as many.
    if any(n % d for n, d in zip(recipe.patch_size, model.divisor)):
        raise ValueError(
            f"`patch_size` must be a multiple of {model.divisor}, as the network halves its grid: "
            f"change it, or take a smaller `depth`. Received: {list(recipe.patch_size)}."
        )
    model.build((None, *(None,) * model.rank, channels[0] * len(recipe.scales)))
    return model


def open_splits(recipe: Recipe) -> tuple[list[TrainingPair], list[TrainingPair]]:
    """Open the pairs of a recipe, and split them into training and validation."""
    data = recipe.data
    if recipe.model_class is ProjectionGVTNet and data.axes and data.target_axes is None:
        data = replace(data, target_axes=data.axes.upper().replace("Z", ""))
    return split_pairs(open_pairs(data), recipe.validation_split, recipe.patch_size[-1])


def prepare(recipe: Recipe) -> tuple[list[TrainingPair], list[TrainingPair], Card]:
    """Open and measure training and validation pairs (possibly none); make a card."""
    training, validation = open_splits(recipe)
    if not training:
        raise ValueError(
            "No pair is left to train on: look at `data.regions`, `data.split` and "
            "`validation_split`."
        )
    _check_units(recipe.normalize, *training[0].kind[:2])
    rules = _measure_rules(recipe, training)
    groups = [
        [_measure_pairs(pair, rules, recipe) for pair in split] for split in (training, validation)
    ]
    statistics = _average([group[0].target_affine for group in groups[0]], training)
    pairs = [[pair for group in split for pair in group] for split in groups]
    return *pairs, _make_card(recipe, training, validation, pairs[0][0], rules, statistics)


def _fit_to_loss(arguments, cls, loss):
    """Fill in the arguments that the loss decides on, or refuse those that do not fit it."""
    needs = {"scale_head": loss in PROBABILISTIC, "classes": 256 if loss in CLASSES else None}
    for name, wanted in needs.items():
        known = name in inspect.signature(cls).parameters
        if not known and not wanted:
            continue
        given = arguments.setdefault(name, wanted)
        if not known or bool(given) != bool(wanted):
            raise ValueError(
                f"The loss {loss!r} needs a network with {name}={wanted}: leave `{name}` "
                f"out, or take another loss or network. Received: {quote(given)}."
            )


def _check_units(normalize, inputs, targets):
    """Refuse units, or a target's normalization, by inputs of another number of channels."""
    if normalize.target is None and inputs != targets:
        raise ValueError(
            f"Targets of {targets} channels cannot be normalized by the statistics of {inputs} "
            f"input channels: set `normalize.target` to a rule of its own, such as 'percentile'. "
            f"Received: 'input'."
        )
    if normalize.denormalize == "input" and inputs not in (1, targets):
        raise ValueError(
            f"Results of {targets} channels cannot take the units of {inputs} input channels: set "
            f"`normalize.denormalize` to 'stored' (the units of the targets) or 'none'."
        )


def _measure_rules(recipe, training):
    """Measure the rules over the whole data set, where they ask for that."""
    normalize = recipe.normalize
    rules = {"input": normalize.input, "target": normalize.target or Normalizer("none")}
    for role, rule in rules.items():
        if rule.kind != "fixed" and rule.scope == "dataset":
            images = [getattr(sample, role) for sample in training]
            rules[role] = rule.from_affine(rule.measure_images(images, f"the training {role}s"))
    return rules


def _measure_pairs(pair, rules, recipe):
    """Measure a pair; a network of planes then sees each plane, by the numbers of its stack."""
    if len(recipe.scales) == 1:  # the network does not look beyond its region
        pair = replace(pair, around=None, origin={})
    pair = pair.measure(rules["input"], rules["target"])
    if recipe.normalize.target is None:
        pair = replace(pair, target_affine=pair.input_affine)
    pair = pair.resize_to_network()  # as published: measured first
    return [pair] if "Z" in recipe.axes else pair.split_along("Z")


def _average(affines, pairs):
    """Average the maps of the targets of pairs, each channel over those that have it."""
    there = ~np.array([pair.target.missing for pair in pairs])
    offset, gain = (
        np.ma.masked_array([getattr(a, name) for a in affines], ~there).mean(0).filled(default)
        for name, default in (("offset", 0.0), ("gain", 1.0))
    )
    return Affine(offset, gain).to_dict()


def _make_card(recipe, training, validation, pair, rules, statistics):
    return Card(
        axes=recipe.axes,
        output_axes=recipe.axes.replace("Z", "") if pair.projects else recipe.axes,
        input_normalizer=rules["input"],
        target_normalizer=rules["target"],
        target_statistics=statistics,
        denormalize=recipe.normalize.denormalize,
        voxel_size={a: s for a, s in pair.input.voxel_size.items() if a in recipe.axes},
        input_channels=training[0].input.names,
        output_channels=training[0].target.names,
        file_channels=training[0].input.file_channels or training[0].input.names,
        trained_channels=_trained_channels(recipe, training, validation),
        probabilistic=recipe.loss in PROBABILISTIC,
        scales=tuple(recipe.scales),
        tile=recipe.patch_size if len(recipe.scales) > 1 else (),
        training={**{key: getattr(recipe, key) for key in SUMMARY}, "pairs": len(training)},
        provenance="trained by the recipe beside this file",
    )


def _trained_channels(recipe, training, validation):
    """Names of the labels that the training images have, where some images lack one."""
    lacking = [s.target.name for s in (*training, *validation) if any(s.target.missing)]
    if not lacking:
        return ()
    if recipe.loss not in MASKED:
        raise ValueError(
            f"{lacking[0]} lacks labels (NaN throughout), which the loss {recipe.loss!r} cannot "
            f"pass over: use one of {', '.join(MASKED)}, or choose labels that all images have."
        )
    names, missing = training[0].target.names, [s.target.missing for s in training]
    return tuple(name for i, name in enumerate(names) if not all(m[i] for m in missing))
