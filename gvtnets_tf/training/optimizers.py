"""The optimizer of a recipe, with its schedule."""

import keras

from gvtnets_tf.training.recipe import Recipe


def make_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """Make the optimizer of a recipe.

    Examples:
        >>> made = Recipe.parse({"preset": "unet", "optimizer": {"name": "adamw", "ema": 0.999}})
        >>> optimizer = make_optimizer(made)
        >>> optimizer.name, optimizer.weight_decay, optimizer.use_ema
        ('adamw', 0.004, True)
    """
    values = dict(vars(recipe.optimizer))
    optimizer = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[values.pop("name")]
    if values["weight_decay"] is None:
        del values["weight_decay"]  # the default of Keras: only AdamW has one
    if (ema := values.pop("ema")) is not None:
        values |= {"use_ema": True, "ema_momentum": ema}
    # The norm over all gradients: clipped one by one, they would point elsewhere together.
    return optimizer(_make_schedule(recipe), global_clipnorm=values.pop("clipnorm"), **values)


def _make_schedule(recipe):
    rate, schedules = recipe.learning_rate, keras.optimizers.schedules
    if rate.kind == "constant":
        return rate.initial
    if rate.kind == "exponential":
        return schedules.ExponentialDecay(
            rate.initial, rate.decay_steps, rate.decay_rate, staircase=True
        )
    # `steps` is rounded up to whole epochs, and the rate is 0 where these end.
    steps = recipe.epochs * -(-recipe.steps // recipe.epochs) - rate.warmup_steps
    if not rate.warmup_steps:
        return schedules.CosineDecay(rate.initial, steps)
    return schedules.CosineDecay(
        0.0, steps, warmup_target=rate.initial, warmup_steps=rate.warmup_steps
    )
