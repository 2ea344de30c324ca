"""Messages in tests are made outside of any Flower run."""

import warnings

import pytest

with warnings.catch_warnings():
    # The typer that Flower pins uses names that the installed click calls deprecated, at import.
    warnings.simplefilter("ignore", DeprecationWarning)
    from flwr.supercore.task_identity import TaskIdentity


@pytest.fixture(autouse=True)
def _flower_identity() -> None:
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
