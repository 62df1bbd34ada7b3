import ast
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import graft
from graft import config as owner
from graft.config import Config, build_config, dump_config, flatten_settings, parse_settings, read_config, setting_names
from graft.errors import ConfigError

SRC = Path(graft.__file__).parent
SECTIONS: dict[str, type[BaseModel]] = {
    name: kind for name, kind in vars(owner).items() if isinstance(kind, type) and issubclass(kind, BaseModel)
}


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# Every setting is read.


class Reads(ast.NodeVisitor):
    """The settings that code reads: `config.train.seed`, or `settings.seed` where `settings` is a TrainConfig.

    What a name holds is told by its annotation or by what is assigned to it, so that the `dtype` of a tensor is not
    taken for the setting.
    """

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._holds: dict[str, str] = {}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self._holds = self._holds, dict(self._holds)
        for argument in (*node.args.args, *node.args.kwonlyargs):
            self._hold(argument.arg, argument.annotation)
        self.generic_visit(node)
        self._holds = outer

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._hold(node.target.id, node.annotation)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        section = self._section(node.value)
        for target in node.targets:
            if section and isinstance(target, ast.Name | ast.Attribute):
                self._holds[target.id if isinstance(target, ast.Name) else target.attr] = section
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._section(node)
        self.generic_visit(node)

    def _hold(self, name: str, annotation: ast.expr | None) -> None:
        if isinstance(annotation, ast.Name) and annotation.id in SECTIONS:
            self._holds[name] = annotation.id

    def _section(self, node: ast.expr) -> str:
        """The class of the section that `node` is; reading a setting of it is noted on the way."""
        if isinstance(node, ast.Name):
            return self._holds.get(node.id, "")
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else ""
            return "Config" if called in ("Config", "build_config") else ""
        if not isinstance(node, ast.Attribute):
            return ""
        section = self._section(node.value)
        field = SECTIONS[section].model_fields.get(node.attr) if section else None
        if field is None:
            return self._holds.get(node.attr, "") if isinstance(node.value, ast.Name) else ""
        inner = getattr(field.annotation, "__name__", "")
        if inner in SECTIONS:
            return inner
        dotted = {kind.annotation.__name__: name for name, kind in Config.model_fields.items() if name != "method"}
        self.found.add(f"{dotted[section]}.{node.attr}" if section in dotted else node.attr)
        return ""


def settings_read(source: str) -> set[str]:
    reads = Reads()
    reads.visit(ast.parse(source))
    return reads.found


def test_every_setting_is_read_somewhere() -> None:
    read: set[str] = set()
    for path in SRC.rglob("*.py"):
        if path != SRC / "config.py":
            read |= settings_read(path.read_text(encoding="utf-8"))
    assert set(setting_names()) - read == set()


def test_what_counts_as_reading_a_setting() -> None:
    assert settings_read("def f(config: Config):\n    return config.train.seed, config.method") == {
        "train.seed",
        "method",
    }
    assert settings_read("def f(settings: DataConfig):\n    return settings.seed") == {"data.seed"}
    assert settings_read("def f(config: Config):\n    s = config.lora\n    return s.r") == {"lora.r"}
    assert settings_read("class A:\n    config: Config\n    def f(self):\n        self.config.data.path") == {
        "data.path"
    }
    assert (
        settings_read("def f(tensor, model):\n    return tensor.dtype, model.path, model.lora.r, settings.r") == set()
    )


# Every setting is explained.


def test_setting_names_are_those_of_the_tree() -> None:
    assert sorted(flatten_settings(Config().model_dump())) == sorted(setting_names())


@pytest.mark.parametrize("name", setting_names())
def test_every_setting_is_explained(name: str) -> None:
    node: type[BaseModel] = Config
    *sections, leaf = name.split(".")
    for section in sections:
        node = SECTIONS[node.model_fields[section].annotation.__name__]
    assert len(node.model_fields[leaf].description or "") > 15


def test_the_defaults_are_valid_and_cannot_be_changed_behind_ones_back() -> None:
    config = build_config()
    assert config == Config()
    with pytest.raises(ValueError, match="frozen"):
        config.train.epochs = 9


# Unknown names and wrong values.


@pytest.mark.parametrize(
    ("settings", "named", "meant"),
    [
        ({"train": {"lerning_rate": 1}}, "train.lerning_rate", "train.learning_rate"),
        ({"train.lerning_rate": 1}, "train.lerning_rate", "train.learning_rate"),
        ({"learning_rate": 1}, "learning_rate", "train.learning_rate"),
        ({"lora.alpha": 1}, "lora.alpha", "lora.lora_alpha"),
        ({"trian": {"epochs": 1}}, "trian.epochs", "train.epochs"),
        ({"metod": "lora"}, "metod", "method"),
        ({"lora": {"r": {"deeper": 1}}}, "lora.r.deeper", "lora.r"),
        ({"trian": {}}, "trian", "train"),
        ({"trian": None}, "trian", "train"),
    ],
)
def test_an_unknown_setting_is_an_error_that_names_the_nearest(
    tmp_path: Path, settings: dict[str, Any], named: str, meant: str
) -> None:
    file = written(tmp_path / "run.yaml", yaml.safe_dump(settings))
    for given_as in (settings, read_config(file)):
        with pytest.raises(ConfigError) as caught:
            build_config(given_as)
        assert f"`{named}`" in caught.value.what
        assert meant in caught.value.fix


def test_where_no_setting_is_alike_all_are_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        build_config({"zzzzzz": 1})
    assert all(name in caught.value.fix for name in setting_names())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train.epochs", "many"),
        ("train.epochs", 0),
        ("train.epochs", 2.5),
        ("train.epochs", [3]),
        ("train.epochs", None),
        ("train.learning_rate", -1),
        ("train.learning_rate", float("nan")),
        ("train.schedule", "cosin"),
        ("train.optimizer", "adam"),
        ("train.min_learning_rate_ratio", 1.5),
        ("train.step_gamma", 0),
        ("train.lora_plus_ratio", 0),
        ("lora.r", "eight"),
        ("lora.r", True),  # `--set lora.r=yes` is no rank of 1
        ("lora.r", {}),
        ("lora.lora_dropout", 1.0),
        ("lora.target_modules", 3),
        ("lora.target_modules", [3]),
        ("lora.use_rslora", "perhaps"),
        ("data.path", 3),
        ("data.held_out", 1.5),
        ("data.held_out", -1),
        ("data.held_out", float("inf")),
        ("data.held_out", float("nan")),
        ("data.cutoff", 1),
        ("checkpoint.keep", 0),
        ("method", None),
        ("method", "nonsense"),
        ("model.dtype", "int3"),
        ("model.quantize", "nf5"),
        ("model.cache_dequantized", True),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_its_setting(name: str, value: object) -> None:
    *sections, leaf = name.split(".")
    nested: dict[str, Any] = {leaf: value}
    for section in reversed(sections):
        nested = {section: nested}
    for settings in ({name: value}, nested):
        with pytest.raises(ConfigError) as caught:
            build_config(settings)
        message = str(caught.value)
        assert leaf in message if leaf == "held_out" else name in message
        assert "Traceback" not in message
        assert "pydantic" not in message


@pytest.mark.parametrize(
    ("schedule", "unread"),
    [
        ("cosine", "step_gamma"),
        ("linear", "step_gamma"),
        ("constant", "step_gamma"),
        ("constant", "min_learning_rate_ratio"),
        ("step", "min_learning_rate_ratio"),
    ],
)
def test_what_the_schedule_does_not_read_is_an_error(schedule: str, unread: str) -> None:
    with pytest.raises(ConfigError, match=f"train: the schedule {schedule} does not read {unread}"):
        build_config({"train.schedule": schedule, f"train.{unread}": 0.5})


def test_all_values_that_do_not_fit_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build_config({"train.epochs": "x", "lora.r": "y"})
    assert "train.epochs" in str(caught.value)
    assert "lora.r" in str(caught.value)


def test_a_value_where_a_section_is_due_is_an_error() -> None:
    with pytest.raises(ConfigError, match="train"):
        build_config({"train": 3})


# The four ways in.


def test_nested_dotted_yaml_and_set_mean_the_same(tmp_path: Path) -> None:
    nested = {
        "model": {"path": "models/小"},
        "method": "lora",
        "lora": {"r": 4, "target_modules": ["q_proj", "v_proj"], "use_rslora": True},
        "train": {"learning_rate": 3e-4, "schedule": "linear", "epochs": 2},
    }
    dotted = {
        "model.path": "models/小",
        "lora.r": 4,
        "lora.target_modules": ["q_proj", "v_proj"],
        "lora.use_rslora": True,
        "train.learning_rate": 3e-4,
        "train.schedule": "linear",
        "train.epochs": 2,
    }
    file = written(
        tmp_path / "run.yaml",
        "model: {path: models/小}\nmethod: lora\nlora.r: 4\nlora:\n  target_modules: [q_proj, v_proj]\n"
        "  use_rslora: true\ntrain:\n  learning_rate: 3e-4\n  schedule: linear\n  epochs: 2\ndata:\n",
    )
    assignments = [
        "model.path=models/小",
        "lora.r=4",
        "lora.target_modules=q_proj,v_proj",
        "lora.use_rslora=true",
        "train.learning_rate=3e-4",
        "train.schedule=linear",
        "train.epochs=2",
    ]
    configs = [build_config(way) for way in (nested, dotted, read_config(file), parse_settings(assignments))]
    assert all(config == configs[0] for config in configs)
    assert configs[0].lora.target_modules == ["q_proj", "v_proj"]
    assert configs[0].train.learning_rate == 3e-4


def test_later_layers_go_over_earlier_ones_and_leave_the_rest() -> None:
    config = build_config({"train": {"epochs": 5, "seed": 1}}, {"train.epochs": 6}, {"train": {"schedule": "linear"}})
    assert (config.train.epochs, config.train.seed, config.train.schedule) == (6, 1, "linear")


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("q_proj", ["q_proj"]),
        ("q_proj, v_proj", ["q_proj", "v_proj"]),
        ("[q_proj, v_proj]", ["q_proj", "v_proj"]),
        ("all-linear", "all-linear"),
        ('"q_proj,"', ["q_proj"]),
    ],
)
def test_target_modules_are_a_word_or_a_list(text: str, modules: object) -> None:
    assert build_config(parse_settings([f"lora.target_modules={text}"])).lora.target_modules == modules


def test_set_reads_values_as_yaml_and_keeps_equals_signs() -> None:
    assert parse_settings(["a.b=1", " c = x=y ", "d=[1, 2]", "e=", "f=no brace {", "g=true"]) == {
        "a.b": 1,
        "c": "x=y",
        "d": [1, 2],
        "e": None,
        "f": "no brace {",
        "g": True,
    }


@pytest.mark.parametrize("assignment", ["lora.r", "=3", " =3", ""])
def test_set_without_a_name_or_a_value_is_an_error(assignment: str) -> None:
    with pytest.raises(ConfigError, match="not of the form name=value"):
        parse_settings([assignment])


@pytest.mark.parametrize("text", ["2024-13-45", "{", "\x00"])
def test_set_with_a_value_that_yaml_cannot_read_takes_it_as_text(text: str) -> None:
    assert build_config(parse_settings([f"data.path={text}"])).data.path == text


# Files.


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"train: [1, 2\n", "is not YAML"),
        (b"train: {epochs: 1}}", "is not YAML"),
        (b"\xff\xfe\x00\x01", "is not YAML"),
        (b"data: {path: 2024-13-45}\n", "is not YAML"),
        (b"!!python/object/apply:os.getcwd []\n", "is not YAML"),
        (b"train: {epochs: 1}\ntrain: {seed: 2}\n", "train"),  # else the first one would be lost without a word
        (b"- train\n- lora\n", "holds no settings"),
        (b"just words\n", "holds no settings"),
    ],
)
def test_a_file_that_is_no_mapping_in_yaml_is_an_error(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_config(file)
    assert str(file) in caught.value.what
    assert said in caught.value.what.replace(str(file), "")


def test_a_missing_file_is_an_error_and_so_is_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot read the configuration"):
            read_config(path)


@pytest.mark.parametrize("text", ["", "\n# all defaults\n", "train:\nlora:\n", "{}"])
def test_a_file_that_sets_nothing_gives_the_defaults(tmp_path: Path, text: str) -> None:
    assert build_config(read_config(written(tmp_path / "run.yaml", text))) == Config()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


def values() -> Iterator[tuple[str, st.SearchStrategy[Any]]]:
    positive = st.floats(min_value=1e-12, max_value=1e12)
    # Control characters and Unicode's line separators stand in no path; PyYAML folds some of them.
    text = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")))
    yield "model.path", text
    yield "data.path", text | st.sampled_from(["yes", "1e3", "null", "2024-01-01", "a: b # c", "数据\n.json"])
    yield "data.held_out", st.integers(0, 10**6) | st.floats(0, 0.999)
    yield "lora.target_modules", st.just("all-linear") | st.lists(text, max_size=3)
    yield "lora.use_rslora", st.booleans()
    yield "train.learning_rate", positive
    yield "train.seed", st.integers(-(2**63), 2**63)


@given(st.fixed_dictionaries({}, optional=dict(values())))
def test_a_saved_configuration_reads_back_equal(scratch: Path, settings: dict[str, Any]) -> None:
    config = build_config(settings)
    file = written(scratch / "run.yaml", dump_config(config))
    assert build_config(read_config(file)) == config


@given(st.binary(max_size=60) | st.text(alphabet="a: {}[],\"'\n-#&*!?|>%@`0123456789.", max_size=60).map(str.encode))
def test_no_file_content_gives_another_error(scratch: Path, content: bytes) -> None:
    file = scratch / "any.yaml"
    file.write_bytes(content)
    with suppress(ConfigError):
        build_config(read_config(file))
