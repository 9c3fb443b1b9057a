"""Access to `/mcp`: the checks of the whole gateway, the scopes of tools, the owners of sessions."""

from __future__ import annotations

import httpx2
import pytest
from mcp import MCPError

from conductor_admin.auth.keys import KeyBody
from tests.conductor_mcp.conftest import McpRig

GENERATING = {"generate_text", "translate", "review_contract"}
OPERATING = {"load_model", "unload_model", "plan_settings"}
OPEN = {"list_models", "server_stats"}


def make_key(mcp_rig: McpRig, name: str, **rules: object) -> str:
    return mcp_rig.rig.gateway.keys.file.create(KeyBody.model_validate({"name": name, **rules}))[1]


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_the_first_key_closes_it_at_once(mcp_rig: McpRig) -> None:
    async with mcp_rig.client() as client:
        await client.list_tools()
        key = make_key(mcp_rig, "first")
        mcp_rig.rig.gateway.keys.look()
        with pytest.raises(MCPError):
            await client.list_tools()
    async with mcp_rig.client(**bearer(key)) as client:
        assert (await client.list_tools()).tools


@pytest.mark.parametrize(
    ("scopes", "offered"),
    [(["infer"], GENERATING | OPEN), (["admin"], OPERATING | OPEN), (["infer", "admin"], None)],
)
async def test_a_key_sees_the_tools_of_its_scopes(
    mcp_rig: McpRig, scopes: list[str], offered: set[str] | None
) -> None:
    key = make_key(mcp_rig, "one", scopes=scopes)
    async with mcp_rig.client(**bearer(key)) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names == (offered or GENERATING | OPERATING | OPEN)
        for name in (GENERATING | OPERATING) - names:
            assert (await client.call_tool(name, {})).is_error


async def test_a_key_sees_its_own_categories(mcp_rig: McpRig) -> None:
    key = make_key(mcp_rig, "one", categories=["legal_analysis"])
    async with mcp_rig.client(**bearer(key)) as client:
        listed = await client.call_tool("list_models", {})
        stats = await client.call_tool("server_stats", {})
        refused = await client.call_tool("generate_text", {"prompt": "x", "category": "translation"})
        assert "translate" not in {tool.name for tool in (await client.list_tools()).tools}
        with pytest.raises(MCPError, match="model_not_found"):
            await client.read_resource("conductor://models/translation")
        with pytest.raises(MCPError, match="category_not_allowed"):
            await client.read_resource("conductor://settings")
    assert listed.structured_content is not None
    assert [row["category"] for row in listed.structured_content["models"]] == ["legal_analysis"]
    assert stats.structured_content is not None
    assert stats.structured_content["memory"] is None
    assert refused.is_error


async def test_a_session_of_the_protocol_belongs_to_the_key_that_opened_it(mcp_rig: McpRig) -> None:
    ada, bob = make_key(mcp_rig, "ada"), make_key(mcp_rig, "bob")
    async with httpx2.AsyncClient(timeout=10, trust_env=False) as http:
        headers = await mcp_rig.session(http, **bearer(ada))
        frame = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        statuses = [
            (await http.post(mcp_rig.url, json=frame, headers={**headers, **bearer(key)})).status_code
            for key in (ada, bob)
        ]
    assert statuses == [200, 404]


@pytest.mark.parametrize(
    ("headers", "status"), [({"host": "evil.example"}, 421), ({"origin": "http://evil.example"}, 403)]
)
async def test_host_and_origin_are_checked(mcp_rig: McpRig, headers: dict[str, str], status: int) -> None:
    async with httpx2.AsyncClient(timeout=10, trust_env=False) as http:
        assert (await http.post(mcp_rig.url, json={}, headers=headers)).status_code == status


async def test_other_paths_keep_the_gateways_own_refusal(mcp_rig: McpRig) -> None:
    async with httpx2.AsyncClient(timeout=10, trust_env=False) as http:
        missing = await http.post(f"{mcp_rig.url}x")
        slash = await http.post(f"{mcp_rig.url}/", json={}, headers={"accept": "text/html"})
    assert missing.json()["error"]["code"] == "not_found"
    assert slash.status_code == 406
