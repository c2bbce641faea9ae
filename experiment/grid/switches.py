"""What an ablation switches on: methods by name, and any option of train."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from preprocess.base.errors import UsageError
from preprocess.base.names import did_you_mean

#: Method -> its settings, of which the first is what NAME=VALUE gives; values of the papers and of docs/methods.md.
SWITCHES: Mapping[str, Mapping[str, str]] = {
    "fgm": {"fgm_epsilon": "1.0"},
    "pgd": {"pgd_epsilon": "1.0", "pgd_steps": "3", "pgd_alpha": "0.3"},
    "ema": {"ema_decay": "0.999"},
    "rdrop": {"rdrop_alpha": "1.0"},
    "llrd": {"layerwise_lr_decay": "0.95"},
    "smoothing": {"label_smoothing": "0.1"},
    "reinit": {"reinit_layers": "2"},
    "freeze": {"freeze_layers": "6"},
    "lora": {"lora_rank": "8", "lora_alpha": "16", "learning_rate": "3e-4"},
    "stopping": {"early_stopping_patience": "3"},
}
#: What rows are called that are none of the switches.
BASE, TOGETHER = "base", "together"


def switches_of(texts: Sequence[str], options: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return what was typed: name of a row -> its settings.

    Args:
        texts: switches, some of them in lists with commas.
        options: names of the options of train.

    Raises:
        UsageError: naming what is unknown, or stands there twice.
    """
    known = [*SWITCHES, *options]
    found: dict[str, dict[str, str]] = {}
    for text in (part.strip() for typed in texts for part in typed.split(",") if part.strip()):
        settings: dict[str, str] = {}
        for part in text.split("+"):
            settings |= dict(_settings(part.strip(), known))
        name = re.sub(r"[^\w-]+", "-", text).strip("-")
        if name in found or name in (BASE, TOGETHER, "all"):
            raise UsageError(f"--switches {text}: a row is called {name!r} already; each has a name of its own")
        found[name] = settings
    if not found:
        raise UsageError(f"--switches: at least one of {', '.join(SWITCHES)}, or OPTION=VALUE, was expected")
    return found


def together(switches: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the settings of all switches at once.

    Raises:
        UsageError: if two of them want different values of one option.
    """
    settings: dict[str, str] = {}
    for each in switches.values():
        for name, value in each.items():
            if settings.setdefault(name, value) != value:
                raise UsageError(
                    f"--switches: {name} can't be {settings[name]} and {value} together; give --no_together"
                )
    return settings


def _settings(text: str, known: list[str]) -> Iterator[tuple[str, str]]:
    name, sign, value = (part.strip() for part in text.partition("="))
    name = name.replace("-", "_")
    if name not in known or (name not in SWITCHES and not sign) or (sign and not value):
        hint = f"; {name} is an option, and is given as {name}=VALUE" if name in known else did_you_mean(name, known)
        raise UsageError(f"--switches {text}: one of {', '.join(SWITCHES)}, or OPTION=VALUE, was expected{hint}")
    if name not in SWITCHES:
        yield name, value
        return
    for i, (option, usual) in enumerate(SWITCHES[name].items()):
        yield option, value if sign and i == 0 else usual
