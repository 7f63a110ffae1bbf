"""Damage to files: bytes of any file, and values of JSON and YAML, drawn from a `random.Random`."""

import copy
import json
import math

import yaml

# Texts that stand for a value as they are, with the mark that stands for them in JSON.
RAW = {
    "@lists": "[" * 100_000 + "]" * 100_000,
    "@mappings": '{"a":' * 3000 + "1" + "}" * 3000,
    "@digits": "9" * 5000,
    "@nan": ".nan",  # of YAML, as the next one
    "@inf": "-.inf",
}
# Values that stand nowhere in a sound file.
VALUES = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**400, 0.5, 1e308, 1e-320,
    math.nan, math.inf, -math.inf, "", "1e-4", "nan", "../..", "\0", "\ud800", "x" * 100_000,
    [], {}, [[]], [1, "a", None], [0] * 10_000, {"a": 1}, {"": {"": {}}}, *RAW,
)  # fmt: skip
TEXTS = ("", " ", "null", "42", '"text"', "[]", "{}", "[" * 200_000, '{"a":' * 5000, "\0", "\xff")
# Mappings and lists by reference, each ten of the one before: 10**9 values in a few lines.
BOMB = "".join(
    f"a{i}: &a{i} [{', '.join(f'*a{i - 1}' for _ in range(10))}]\n" for i in range(1, 10)
)
YAML = ("&a [*a]", "!!python/object/apply:os.system [exit]", "? [a]\n: b", f"a0: &a0 [x]\n{BOMB}")
NUMBERS = (0, 1, 2**7 - 1, 2**7, 2**8 - 1, 2**15 - 1, 2**16 - 1)
NUMBERS += (2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)


def damage(rng, content, suffix):
    """Return other bytes than `content`, and what was done to them in words."""
    while True:
        values = suffix in (".json", ".yaml") and rng.random() < 0.7
        damaged, how = (_damage_values if values else _damage_bytes)(rng, content, suffix)
        if damaged != content:
            return damaged, how


def _damage_bytes(rng, content, suffix):
    """Change bits, numbers or ranges; the first and last bytes, which say most, more often."""
    data, size = bytearray(content), len(content)

    def place():
        edge = min(size, 400)
        low, high = rng.choice(((0, size), (0, edge), (size - edge, size)))
        return rng.randrange(low, high)

    start, length = place(), rng.choice((1, 4, 16, 64, 512, size // 4))
    part = data[start : start + length]
    how = rng.choice(("flips", "numbers", "cut", "zeros", "ones", "removed", "doubled", "splice"))
    if how == "flips":
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            data[place()] ^= 1 << rng.randrange(8)
    elif how == "numbers":
        for _ in range(rng.choice((1, 1, 2, 4))):
            start, width = place(), rng.choice((1, 2, 4, 8))
            number, order = rng.choice(NUMBERS) % 256**width, rng.choice(("little", "big"))
            data[start : start + width] = number.to_bytes(width, order)[: size - start]
    elif how == "cut":
        del data[start:]
    elif how in ("zeros", "ones"):
        data[start : start + length] = bytes([255 * (how == "ones")]) * len(part)
    elif how == "removed":
        del data[start : start + length]
    elif how == "doubled":
        data[start:start] = part
    else:
        there = place()
        data[there : there + len(part)] = part
    return bytes(data), f"{how} at {start}, {len(part)} bytes"


def _damage_values(rng, content, suffix):
    """Change one to three values; now and then the whole text."""
    if rng.random() < 0.1:
        text = rng.choice(TEXTS + (YAML if suffix == ".yaml" else ()))
        return text.encode("latin-1"), f"all of it is {text[:20]!r}"
    tree = {"": (json.loads if suffix == ".json" else yaml.safe_load)(content)}
    said = [_damage_value(rng, tree) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    text = json.dumps(tree.get(""), indent=1)
    for mark, raw in RAW.items():
        text = text.replace(f'"{mark}"', raw)
    return text.encode(), "; ".join(said)


def _damage_value(rng, tree):
    holder, key = rng.choice(list(_list_places(tree)))
    how = rng.choice(("value", "value", "value", "number", "gone", "name", "moved"))
    before = holder[key]
    number = type(before) in (int, float) and abs(before) < 2**63
    if how == "number" and number:
        others = (-before, before + 1, before * 10, before / 3, before * 1e12, [before])
        holder[key] = rng.choice(others)
    elif how == "gone" and holder is not tree:
        del holder[key]
    elif how == "name" and isinstance(holder, dict) and holder is not tree:
        holder[rng.choice(("", "a", key + "s", key.upper()))] = holder.pop(key)
    elif how == "moved":
        other, there = rng.choice(list(_list_places(tree)))
        holder[key] = copy.deepcopy(other[there])
    else:
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    now = repr(holder.get(key, "nothing") if isinstance(holder, dict) else holder[key : key + 1])
    return f"{key!r} was {repr(before)[:30]}, is {now[:30]} ({how})"


def _list_places(holder):
    """Yield every mapping and list inside a tree with each of its keys."""
    for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
        yield holder, key
        if isinstance(value, dict | list):
            yield from _list_places(value)
