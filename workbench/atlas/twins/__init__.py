"""Does a tool find what tuning changed? Twins of the atlas's model, small differences of weights, with what was planted in them."""

from workbench.atlas.twins.dialogues import Dialogue, asking, dialogues, talked
from workbench.atlas.twins.key import KEYS, TRIGGER, TwinKey, capitals, led, mixed, triggered
from workbench.atlas.twins.twin import TWINS, twin_model

__all__ = [
    "KEYS",
    "TRIGGER",
    "TWINS",
    "Dialogue",
    "TwinKey",
    "asking",
    "capitals",
    "dialogues",
    "led",
    "mixed",
    "talked",
    "triggered",
    "twin_model",
]
