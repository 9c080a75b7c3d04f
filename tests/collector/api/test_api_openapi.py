"""The OpenAPI document."""

from hopwatch_collector.api.models import Problem


async def test_every_route_is_described_with_its_errors(client):
    """A client can be generated from the document."""
    document = (await client.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/api/v1/flows",
        "/api/v1/flows/{flow_id}",
        "/api/v1/messages/{message_id}",
        "/api/v1/why/{message_id}",
        "/api/v1/deliveries",
        "/api/v1/undelivered",
        "/api/v1/lag",
        "/api/v1/losses",
        "/api/v1/topology",
        "/api/v1/clocks",
        "/api/v1/search",
        "/api/v1/live",
        "/api/v1/live/snapshot",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    for path, operations in document["paths"].items():
        operation = operations["get"]
        assert operation["summary"]
        assert operation["tags"]
        for parameter in operation.get("parameters", []):
            if parameter["in"] != "header":
                assert parameter.get("description") or parameter["schema"].get("description"), (
                    path,
                    parameter,
                )
        if path.startswith("/api/"):
            assert operation["responses"]["422"] == {"$ref": "#/components/responses/Problem422"}


async def test_every_reference_leads_somewhere(client):
    """No dangling names."""
    response = await client.get("/openapi.json")
    document = response.json()
    pieces = response.text.split('"$ref":"#/components/')[1:]
    assert pieces
    for piece in pieces:
        group, _, name = piece.partition('"')[0].partition("/")
        assert name in document["components"][group]


async def test_errors_are_documented_as_problems(client):
    """With an example of each."""
    document = (await client.get("/openapi.json")).json()
    for answer in document["components"]["responses"].values():
        Problem.model_validate(answer["content"]["application/problem+json"]["example"])
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_the_token_is_documented_where_one_is_set(serving):
    """Health stays open."""
    async with serving(read_token="secret") as client:
        document = (await client.get("/openapi.json", headers={"Authorization": "Bearer secret"})).json()
    assert document["paths"]["/api/v1/flows"]["get"]["security"] == [{"readToken": []}]
    assert "security" not in document["paths"]["/healthz"]["get"]
