"""Databases that real applications made, once for all tests. Not to be written to."""

import pytest

from apps.applications import make_application


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory):
    return make_application("mlflow", tmp_path_factory.mktemp("mlflow"))


@pytest.fixture(scope="session")
def optuna(tmp_path_factory):
    return make_application("optuna", tmp_path_factory.mktemp("optuna"))


@pytest.fixture(scope="session")
def prefect(tmp_path_factory):
    return make_application("prefect", tmp_path_factory.mktemp("prefect"))
