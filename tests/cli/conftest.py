"""Where an operator types."""

from pathlib import Path

import pytest

from tests.cli.terminal import Terminal


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    config = tmp_path / "mdnp.toml"
    config.touch()
    monkeypatch.setenv("MDNP_CONFIG", str(config))
    monkeypatch.setenv("MDNP_RUNTIME_DIR", str(tmp_path))
    return Terminal(tmp_path, monkeypatch, capsys)
