"""Published checkpoints become model folders.

Only names and arrays are read. A file that would have to run code to be read is refused.
"""

import re
from pathlib import Path

import numpy as np

from gvtnets_tf.atomic_files import check_inputs_kept, check_writable
from gvtnets_tf.checks import check_choice
from gvtnets_tf.download import compute_digest
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.fnet import FNet
from gvtnets_tf.models.presets import PRESETS
from gvtnets_tf.zoo import model_folder, weight_names
from gvtnets_tf.zoo.card import Card
from gvtnets_tf.zoo.torch_state import check_size, read_state

SOURCES = {"tf1": "TensorFlow-1 checkpoint", "fnet": "pytorch_fnet state"}


def convert_tf1(
    prefix: str | Path, out: str | Path, preset: str, normalize: str | None = None,
    force: bool = False, **about,
) -> Path:  # fmt: skip
    """Turn a released TensorFlow-1 checkpoint of GVTNets into a model folder; return its path.

    Every variable has one place and every place is filled; counters and the optimizer's memory
    are passed over.

    Args:
        prefix: path of the checkpoint without `.index` and `.data-...`.
        out: folder to make; one of this package that exists is replaced if `force`.
        preset: `"label_free"`, `"denoising"` or `"projection"`.
        normalize: `"none"`, `"zscore"` or `"percentile"`, of the input; by default as
            published, as is `denormalize` always.
        **about: entries of the `Card` that are known better, e.g. `output_channels`.

    Raises:
        FileExistsError, FileNotFoundError: naming `out`, or a part of the checkpoint.
        ValueError: for a damaged checkpoint, or one of another network, with the variables that
            are missing, left over or of another shape.

    Examples:
        >>> convert_tf1("model.ckpt-pretrained", "new", "denoising")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        FileNotFoundError: There is no model.ckpt-pretrained.index: a checkpoint is ...
    """
    check_choice("preset", preset, ("label_free", "denoising", "projection"))
    check_writable(out, force)
    prefix, data = _find_checkpoint(prefix)
    check_inputs_kept([Path(out)], [data])
    model = PRESETS[preset].build()
    model.build((None,) * (model.rank + 1) + (1,))
    shapes, read = _read_checkpoint(prefix)
    shapes = {name: shape for name, shape in shapes.items() if weight_names.is_weight(name)}
    _fill(
        model,
        f"{prefix} as preset {preset!r}",
        shapes,
        rename=lambda name: weight_names.own_name(name, preset),
        # A 1x1x1 convolution is a dense layer here.
        expected=lambda own, shape: (1,) * (len(shape) - len(own)) + own,
        read=read,
    )
    return _write(out, model, preset, normalize, force, "tf1", data, **about)


def convert_fnet(
    file: str | Path, out: str | Path, normalize: str = "zscore", force: bool = False
) -> Path:
    """Turn the state of a pytorch_fnet network into a model folder.

    Depth, filters and channels are read off the shapes; the published network has 5 levels (4
    down-samplings) and 32 filters. Predictions are not given units (`denormalize="none"`).

    Args:
        file: `.npz` or `.safetensors` (extra `[safetensors]`) with one array per entry of the
            state, or `.pt`, `.pth`, `.p` (extra `[torch]`), read with `weights_only=True`, the
            state itself or under `nn_state`.
        out, normalize, force: as in `convert_tf1`, whose errors and result it has.

    Raises:
        ModuleNotFoundError: naming the extra that the format needs.
        ValueError: also for another format, or a file that would have to run code.

    Examples:
        >>> convert_fnet("state.npz", "fnet")
        Traceback (most recent call last):
            ...
        FileNotFoundError: There is no file state.npz.
    """
    check_writable(out, force, [file])
    file = Path(file)
    state = {n: a for n, a in read_state(file).items() if not n.endswith("num_batches_tracked")}
    model = _build_fnet(file, state)
    _fill(
        model,
        f"{file} as the state of pytorch_fnet",
        {name: array.shape for name, array in state.items()},
        rename=weight_names.fnet_name,
        expected=lambda own, shape: weight_names.torch_shape(own),
        read=lambda name: weight_names.from_torch(state[name]),
    )
    return _write(out, model, "fnet", normalize, force, "fnet", file)


def _fill(model, source, shapes, rename, expected, read):
    """Give every weight the one array that the file `source` has for it.

    `rename` and `read` take a name in the file, and return ours and the array, its axes in the
    order of Keras; `expected` takes the shapes of both, and returns the one needed in the file.
    """
    named = named_weights(model)
    places = {rename(name): name for name in sorted(shapes, reverse=True)}  # of two, the first
    places = {own: name for own, name in places.items() if own in named}
    left = sorted(shapes.keys() - places.values())
    missing = [own for own in named if own not in places]
    if missing or left:
        raise ValueError(
            f"{source} does not fit: {len(missing)} weights find no value "
            f"({', '.join(missing[:3])}), {len(left)} of its entries have no place "
            f"({', '.join(left[:3])}). Is it another network, or another preset?"
        )
    for own, name in places.items():
        weight, shape = named[own], tuple(shapes[name])
        needed = expected(tuple(weight.shape), shape)
        if shape != needed:
            raise ValueError(
                f"{source} does not fit: {name} has shape {shape}, but {needed} is needed."
            )
        value = read(name)
        if value.dtype.kind != "f" or not np.isfinite(value).all():
            raise ValueError(
                f"{source} does not fit: {name} must hold finite floating-point numbers. "
                f"Received: type {value.dtype}, {np.size(value)} entries."
            )
        weight.assign(value.reshape(weight.shape))


def _write(out, model, preset, normalize, force, kind, file, **about):
    digest = compute_digest(file).removeprefix("sha256:")
    provenance = f"converted from the {SOURCES[kind]} {file.name}, SHA-256 {digest}"
    published = PRESETS[preset]
    rules = published.published["normalize"]
    if normalize is not None:
        rules = {**rules, "input": normalize, "target": normalize}
    check_choice("normalize", rules["input"], ("none", "zscore", "percentile"))
    axes = published.axes[-model.rank :]
    card = Card(
        axes=axes,
        output_axes=axes if axes != published.axes else published.output_axes,
        input_normalizer=Normalizer(rules["input"]),
        target_normalizer=Normalizer(rules["target"]),
        denormalize=rules["denormalize"],
        voxel_size={a: s for a, s in weight_names.VOXEL_SIZE.get(preset, {}).items() if a in axes},
        probabilistic=model.scale_head,
        **{"provenance": provenance, "license": weight_names.LICENSES[kind], **about},
    )
    return model_folder.write_model(out, model, card, force)


def _find_checkpoint(prefix):
    """Return the prefix, also for the name of one of the files, and the data file."""
    prefix = Path(re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", str(prefix)))
    files = [prefix.with_name(prefix.name + end) for end in (".index", ".data-00000-of-00001")]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(
                f"There is no {file}: a checkpoint is {prefix.name}.index and "
                f"{prefix.name}.data-00000-of-00001 in one folder."
            )
        check_size(file, file.stat().st_size)
    return prefix, files[1]


def _read_checkpoint(prefix):
    """Read the shape of every variable by name; return them and a function that reads one."""
    import tensorflow as tf

    def guarded(function, *args):
        try:
            return function(*args)
        except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"{prefix} cannot be read as a TensorFlow checkpoint: it is truncated or damaged "
                f"({str(error).partition(chr(10))[0]}). Copy or fetch it again."
            ) from error

    reader = guarded(tf.train.load_checkpoint, str(prefix))
    return reader.get_variable_to_shape_map(), lambda name: guarded(reader.get_tensor, name)


def _build_fnet(file, state):
    """Build the network of a state by the shapes of its first, deepest and last kernel."""
    first, last = "net_recurse.sub_2conv_more.conv1.weight", "conv_out.weight"
    depth = 1 + max((name.count("sub_u.") for name in state), default=0)
    deepest = first.replace("net_recurse.", "net_recurse." + "sub_u." * (depth - 1))
    for name in (first, deepest, last):
        if name not in state or state[name].ndim not in (4, 5):
            raise ValueError(
                f"{file} is not the state of a pytorch_fnet network: it has no kernel {name}. "
                f"Received: {', '.join(sorted(state)[:3]) or 'nothing'}."
            )
    filters, channels, *kernel = state[first].shape
    # Before anything of that size is made: the file itself holds a level so wide.
    if state[deepest].shape[0] != filters * 2 ** (depth - 1):
        raise ValueError(
            f"{file} is not the state of a pytorch_fnet network: from {filters} filters, {depth} "
            f"levels lead to {filters * 2 ** (depth - 1)}. Received: {deepest} of shape "
            f"{state[deepest].shape}."
        )
    model = FNet(len(kernel), state[last].shape[0], filters, depth)
    model.build((None,) * (model.rank + 1) + (channels,))
    return model
