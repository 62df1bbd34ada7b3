"""What the README says of the settings is what the settings are."""

import re
from pathlib import Path

import yaml

from graft.config import Config, flatten_settings

README = Path(__file__).parents[1] / "README.md"
ROW = re.compile(r"^\| (`[a-z]\w*(?:\.\w+)?`(?:, `[a-z]\w*\.\w+`)*) \| (.+?) \|", re.MULTILINE)


def test_the_table_has_every_setting_with_its_default() -> None:
    said = {}
    for names, defaults in ROW.findall(README.read_text(encoding="utf-8")):
        values = ["" if text == "-" else yaml.safe_load(text.strip("`")) for text in defaults.split(", ")]
        said.update(zip(names.replace("`", "").split(", "), values, strict=True))
    real = flatten_settings(Config().model_dump())
    assert said.keys() == real.keys()
    for name, default in real.items():
        assert type(default)(said[name]) == default, name
