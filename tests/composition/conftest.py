import pytest
import yaml


@pytest.fixture
def overlay(tmp_path):
    """Write an overlay: text, or what YAML makes of data"""

    def write(content, name="mine.yaml"):
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write
