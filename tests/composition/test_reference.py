"""The reference and the schema are of the settings that there are"""

import json
from typing import Dict, List, Optional

import jsonschema
import pytest
import yaml

from dffml_operations_decentralice import flows, schemas
from dffml_operations_decentralice.composition import compose, reference
from dffml_operations_decentralice.engine import setting, settings
from dffml_operations_decentralice.engine.settings import SettingError, validated


@pytest.fixture(scope="module")
def tables():
    return reference.tables(sorted(flows.overlays()))


def test_page_is_of_now(tables):
    """`make docs` writes it"""
    assert (flows.folder() / "settings.md").read_text() == reference.page(tables)


def test_schema_is_of_now(tables):
    """`make docs` writes it"""
    assert schemas.schema("overlay") == json.loads(json.dumps(reference.schema(tables)))


@pytest.mark.parametrize("name", sorted(flows.overlays()))
def test_overlays_are_of_the_schema(name):
    content = yaml.safe_load(flows.overlays()[name].read_text())
    jsonschema.validate(content, schemas.schema("overlay"))


def test_every_setting_is_on_the_page(tables):
    page = reference.page(tables)
    for table in tables:
        for field in table.settings.__dataclass_fields__:
            assert f"* `{field}`: " in page


@settings
class User:
    name: str = setting("Name", pattern="[a-z]+")
    shell: str = setting("Shell", default="sh", choices=("sh", "bash"))


@settings
class Sample:
    users: List[User] = setting("Users", default_factory=list)
    owner: Optional[User] = setting("Owner", default=None)
    sizes: Dict[str, int] = setting("Sizes", default_factory=dict, minimum=1, maximum=9)
    ratio: float = setting("Ratio", default=0.5)
    loud: bool = setting("Loud", default=False)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"users": [{"name": "a", "shell": "bash"}], "owner": None, "loud": True},
        {"owner": {"name": "b"}, "sizes": {"x": 9}, "ratio": 1},
        {"users": [{}]},
        {"users": {}},
        {"users": [{"name": "A"}]},
        {"owner": {"name": "a", "shell": "zsh"}},
        {"owner": {"nam": "a"}},
        {"sizes": {"x": 0}},
        {"sizes": {"x": 10}},
        {"sizes": {"x": "1"}},
        {"ratio": "1"},
        {"loud": 1},
        {"other": 1},
    ],
)
def test_schema_and_checks_agree(values):
    try:
        validated(Sample, values)
        accepted = True
    except SettingError:
        accepted = False
    schema = reference.of_class(Sample)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert jsonschema.Draft202012Validator(schema).is_valid(values) is accepted


def test_rows():
    text = "\n".join(reference.rows(Sample, {"ratio": 2}, 0))
    assert "* `users`: Users. A list of a mapping." in text
    assert "\n  * `name`: Name. Text. Matches `[a-z]+`." in text
    assert "\n  * `shell`: Shell. Text. One of `sh`, `bash`. Default: `'sh'`." in text
    assert "At least 1. At most 9." in text
    assert "* `ratio`: Ratio. A number. The flow has `2`." in text


def test_tables_of_an_overlay():
    named = {(one.name, one.overlay) for one in reference.tables(["mirror"])}
    assert ("kernel_repository", "") in named
    assert ("kernel_repository", "mirror") in named
    assert ("fetch_debian_kernel", "mirror") in named
    assert ("build_uki", "mirror") not in named
    assert {name for name, overlay in named if not overlay} == {
        name
        for name, one in compose().operations.items()
        if reference.settings_of(name, one)
    }
