"""A task that can be learned in a minute and checked exactly: an order in free text becomes JSON with five fields.

Held-out orders are paraphrases: sentences that training never shows, half of them about things and places it never
shows. The score is `fields_right`: the share of the five fields whose value in the answer's JSON is right. It counts
values and not the form, so a control trained on shuffled answers learns the form and gains little.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

_COLOURS = ("red", "blue", "green", "black", "white", "yellow")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
_ITEMS = ("chairs", "tables", "lamps", "desks", "mugs", "shelves", "bottles", "jackets")
_CITIES = ("Berlin", "Hamburg", "Munich", "Cologne", "Paris", "Vienna", "Rome", "Madrid")
_UNSEEN_ITEMS = ("sofas", "clocks")
_UNSEEN_CITIES = ("Dresden", "Oslo")
_SENTENCES = (
    "Please send {n} {colour} {item} to {city} on {day}.",
    "We need {n} {colour} {item} in {city} by {day}.",
    "Ship {n} {item} in {colour} to our office in {city}, arriving {day}.",
    "On {day}, deliver {n} {colour} {item} to {city}.",
    "Our shop in {city} wants {n} {colour} {item}; {day} would be fine.",
    "Hello, I would like {n} {item}, all {colour}, brought to {city} this {day}.",
    "For {city}: {n} {colour} {item}, {day}.",
    "Could you get {n} {colour} {item} to {city} before {day}?",
)
_HELD_OUT_SENTENCES = (
    "By {day} there should be {n} {colour} {item} at the branch in {city}.",
    "The customer from {city} ordered {n} {item} ({colour}), due {day}.",
    "I am waiting in {city} for {n} {colour} {item}, expected {day}.",
)


@dataclass(frozen=True, slots=True)
class Order:
    """What an order says."""

    item: str
    colour: str
    quantity: int
    city: str
    day: str

    @property
    def answer(self) -> str:
        """The JSON that a good model gives."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Example:
    """An order in words, and what it says."""

    text: str
    order: Order


def training_examples(count: int, seed: int) -> list[Example]:
    """What may be learned from."""
    chance = random.Random(seed)  # noqa: S311 (data, not secrets)
    return [_example(chance, _SENTENCES, _ITEMS, _CITIES) for _ in range(count)]


def held_out_examples(count: int, seed: int) -> list[Example]:
    """What is only ever asked."""
    chance = random.Random(seed)  # noqa: S311 (data, not secrets)
    items, cities = (*_UNSEEN_ITEMS, *_ITEMS[:2]), (*_UNSEEN_CITIES, *_CITIES[:2])
    return [_example(chance, _HELD_OUT_SENTENCES, items, cities) for _ in range(count)]


def shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """The control: the same texts and the same answers, paired by chance."""
    orders = [example.order for example in examples]
    random.Random(seed).shuffle(orders)  # noqa: S311 (data, not secrets)
    return [Example(example.text, order) for example, order in zip(examples, orders, strict=True)]


def as_jsonl(examples: Sequence[Example]) -> bytes:
    """A file for `/v1/files`, purpose `fine-tune`."""
    return b"".join(
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": example.text},
                    {"role": "assistant", "content": example.order.answer},
                ]
            }
        ).encode()
        + b"\n"
        for example in examples
    )


def fields_right(answer: str, order: Order) -> float:
    """The share of right fields; 0 for an answer that is no JSON object."""
    try:
        given = json.loads(answer)
    except ValueError:
        return 0.0
    if not isinstance(given, dict):
        return 0.0
    names = [field.name for field in fields(order)]
    right = [bool(given.get(name) == getattr(order, name)) for name in names]
    return sum(right) / len(right)


def _example(chance: random.Random, sentences: Sequence[str], items: Sequence[str], cities: Sequence[str]) -> Example:
    number = chance.randrange(len(_NUMBERS))
    order = Order(
        chance.choice(items), chance.choice(_COLOURS), number + 2, chance.choice(cities), chance.choice(_DAYS)
    )
    written = chance.choice((_NUMBERS[number], str(order.quantity)))
    words = {"n": written, "colour": order.colour, "item": order.item, "city": order.city, "day": order.day}
    return Example(chance.choice(sentences).format(**words), order)
