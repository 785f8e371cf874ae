"""A tiny model for the frontend's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.llm.preprocessor import ModelFiles, Preprocessor
from muster.testing.scripted import ScriptedModel
from muster.testing.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def preprocessor(model_directory: Path) -> Preprocessor:
    return Preprocessor.load(ModelFiles.of_directory(model_directory), context_length=2048)


@pytest.fixture(scope="session")
def model(model_directory: Path) -> ScriptedModel:
    return ScriptedModel(model_directory)
