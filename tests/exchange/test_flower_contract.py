"""The shape of the Flower internals that the courier uses. A failure here means: read the new version before use."""

import inspect

from flwr.common.constant import ErrorCode, SubStatus
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest, AcquireTaskResponse, SendTaskHeartbeatResponse
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode
from flwr.supernode.runtime import run_clientapp

from ldp_client.courier import check_flower_version
from server.edge import FORWARDED, PUSH


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_installed_flower_is_a_tested_version() -> None:
    check_flower_version()


def test_the_building_blocks_of_a_task_have_the_shape_that_was_tested() -> None:
    assert parameters(run_clientapp.pull_task_input) == ["client"]
    assert parameters(run_clientapp.push_message) == ["client", "message", "context"]
    assert parameters(run_clientapp.push_task_output) == ["client", "context", "sub_status", "details"]
    assert parameters(HeartbeatSender) == ["heartbeat_fn"]
    assert parameters(RuntimeTokenHttpInterceptor) == ["token"]
    assert parameters(RuntimeVersionHttpInterceptor) == ["component_name"]
    assert parameters(SuperExecAuthHttpInterceptor) == ["master_secret", "protected_methods"]
    assert {"server_address", "insecure", "root_certificates", "interceptors"} <= set(
        parameters(RuntimeHttpClient.from_server_address)
    )


def test_pulling_a_task_only_carries_its_bundle() -> None:
    """`pull_task_input` names no installer and no loader: the bundle stays bytes."""
    names = set(run_clientapp.pull_task_input.__code__.co_names)
    assert not names & {"install_from_fab", "get_load_client_app_fn", "install_app_dependencies", "import_module"}


def test_the_messages_have_the_fields_that_are_read() -> None:
    assert "supported_task_types" in AcquireTaskRequest.DESCRIPTOR.fields_by_name
    assert {"task", "token"} <= set(AcquireTaskResponse.DESCRIPTOR.fields_by_name)
    assert "success" in SendTaskHeartbeatResponse.DESCRIPTOR.fields_by_name
    assert {"node", "messages_list", "message_object_trees"} <= set(PushMessagesRequest.DESCRIPTOR.fields_by_name)
    assert TaskType.CLIENT_APP == "flwr-clientapp"
    assert (SubStatus.COMPLETED, SubStatus.FAILED) == ("completed", "failed")
    assert ErrorCode.CLIENT_APP_RAISED_EXCEPTION == 2


def test_the_edge_knows_every_fleet_operation_and_leaves_out_two() -> None:
    fleet = {path for _, path in PROTOBUF_REQUEST_TYPES if path.startswith("/v1/fleet/")}
    assert fleet - FORWARDED == {"/v1/fleet/register-node", "/v1/fleet/unregister-node"}
    assert fleet >= FORWARDED
    assert PROTOBUF_REQUEST_TYPES["POST", PUSH] is PushMessagesRequest


def test_a_supernode_would_import_server_code_unless_told_otherwise() -> None:
    """Why `--isolation process` stands in our command: it is not the default."""
    options = _parse_args_run_supernode()
    assert options.get_default("isolation") == "subprocess"
