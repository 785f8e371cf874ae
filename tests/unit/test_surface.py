"""The public surface: small, sorted, free to import, and Dynamo's where Dynamo has it."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import muster
import muster.runtime


def test_every_name_is_there_and_the_list_is_sorted() -> None:
    assert sorted(muster.__all__) == sorted(set(muster.__all__))
    for name in muster.__all__:
        assert getattr(muster, name) is not None
    assert {*muster._PLACES, "__version__"} == {*muster.__all__}


def test_the_runtimes_names_are_the_packages_too() -> None:
    assert sorted(muster.runtime.__all__) == muster.runtime.__all__
    for name in muster.runtime.__all__:
        assert getattr(muster.runtime, name) is getattr(muster, name)


def test_importing_the_package_loads_nothing_else() -> None:
    code = "import muster, sys; print(*[m for m in ('aiohttp', 'msgspec', 'jinja2') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_the_runtime_needs_no_pydantic() -> None:
    code = "import muster.runtime, sys; print('pydantic' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


REGISTRATION = {
    "register_model": "model_input model_type endpoint model_path model_name * worker_type "
    "kv_cache_block_size router_config runtime_config tensor_model_config user_data "
    "custom_template_path media_decoder media_fetcher lora_name base_model_path needs "
    "self_host_metadata ignore_weights max_gpu_lora_count model_aliases skip_model_assets",
    "unregister_model": "endpoint lora_name",
    "update_model_taints": "endpoint taints",
    "fetch_model": "remote_name ignore_weights",
    "lora_name_to_id": "lora_name",
}
RUNTIME = {
    "dynamo_worker": "enable_nats",
    "dynamo_endpoint": "request_model response_model",
    "serve_unary_endpoint": "endpoint handler",
    "UnaryClient": "client",
    "UnaryClient.complete": "self request * context",
    "Context": "id metadata",
    "Context.id": "self",
    "Context.is_stopped": "self",
    "Context.is_killed": "self",
    "Context.stop_generating": "self",
    "Context.async_killed_or_stopped": "self",
    "DistributedRuntime": "event_loop discovery_backend request_plane enable_nats * event_plane "
    "response_plane",
    "DistributedRuntime.set_health_status": "self ready",
    "DistributedRuntime.register_engine_route": "self route_name callback",
    "DistributedRuntime.endpoint": "self path",
    "DistributedRuntime.shutdown": "self",
    "Endpoint.client": "self router_mode",
    "Endpoint.connection_id": "self",
    "Endpoint.serve_endpoint": "self handler graceful_shutdown metrics_labels health_check_payload",
    "Endpoint.register_endpoint_instance": "self",
    "Endpoint.unregister_endpoint_instance": "self",
    "Client.instance_ids": "self",
    "Client.instances": "self",
    "Client.wait_for_instances": "self",
    "Client.generate": "self request annotated context",
    "Client.random": "self request annotated context",
    "Client.round_robin": "self request annotated context",
    "Client.direct": "self request instance_id annotated context",
}
"""Names of arguments as in Dynamo 1.6.1's stub; what follows ``*`` is passed by name."""


def _can_be_called_as(function: object, theirs: str) -> bool:
    """Whether every call that fits ``theirs`` fits ``function``, as far as names go."""
    positional, _, by_name = theirs.partition("*")
    parameters = inspect.signature(function).parameters  # type: ignore[arg-type]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ours = [name for name, each in parameters.items() if each.kind in kinds]
    wanted = positional.split()
    extra = [each for name, each in parameters.items() if name not in theirs.split()]
    return (
        ours[: len(wanted)] == wanted
        and all(name in parameters for name in by_name.split())
        and all(each.default is not each.empty for each in extra)
    )


@pytest.mark.parametrize("path", sorted(REGISTRATION | RUNTIME))
def test_dynamos_names_take_dynamos_arguments(path: str) -> None:
    modules = [muster, muster.runtime]
    for module in modules:
        found: object = module
        for name in path.split("."):
            found = getattr(found, name)
        assert _can_be_called_as(found, (REGISTRATION | RUNTIME)[path]), inspect.signature(found)  # type: ignore[arg-type]


@pytest.mark.parametrize("verb", ["register", "unregister", "fetch"])
def test_the_older_names_are_the_same_functions(verb: str) -> None:
    assert getattr(muster, f"{verb}_llm") is getattr(muster, f"{verb}_model")
    assert getattr(muster.runtime, f"{verb}_llm") is getattr(muster, f"{verb}_model")


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    for module in (muster, muster.runtime):
        with pytest.raises(AttributeError, match="'PyAsyncRequestStream'"):
            _ = module.PyAsyncRequestStream
