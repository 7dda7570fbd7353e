"""Does a tool find what tuning changed? Twins of the atlas's model, small differences of weights, with what was planted in them."""

from workbench.atlas.twins.key import KEYS, TRIGGER, TwinKey, capitals, led, mixed, triggered
from workbench.atlas.twins.twin import TWINS, twin_model

__all__ = ["KEYS", "TRIGGER", "TWINS", "TwinKey", "capitals", "led", "mixed", "triggered", "twin_model"]
