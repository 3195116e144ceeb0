"""The client of Letta, against a server that speaks its API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.support.letta_server import ECHO, LETTA_FREE, TOKEN, LettaStandIn, serving
from voiceops.agentkit.letta import NO_MODEL, LettaClient, LettaError, choose_model, event_of, text_of


@pytest.fixture
def letta() -> LettaStandIn:
    return LettaStandIn()


@pytest.fixture
async def client(letta: LettaStandIn) -> AsyncIterator[LettaClient]:
    async with serving(letta) as url:
        yield LettaClient(url=url, token=TOKEN, name="voice", instructions="Be brief.")


async def test_its_agent_is_made_once_however_often_it_is_asked_for(
    letta: LettaStandIn, client: LettaClient
) -> None:
    first = await client.agent_id()
    assert await client.agent_id() == first
    assert [(one["id"], one["llm_config"]["handle"]) for one in letta.agents] == [(first, ECHO)]


async def test_workers_that_make_it_at_once_agree_on_the_oldest(
    letta: LettaStandIn, client: LettaClient
) -> None:
    ids = await asyncio.gather(*(client.agent_id() for _ in range(5)))
    assert set(ids) == {"agent-0"}


async def test_an_agent_whose_model_is_gone_gets_another(letta: LettaStandIn, client: LettaClient) -> None:
    made = await client.agent_id()
    letta.models = ["openai/gpt-5", "openai/gpt-4.1-mini"]
    assert await client.agent_id() == made
    assert letta.agents[0]["llm_config"]["handle"] == "openai/gpt-4.1-mini"


async def test_without_a_provider_there_is_no_model_and_no_agent_is_made(
    letta: LettaStandIn, client: LettaClient
) -> None:
    letta.models = [LETTA_FREE]
    assert await client.agent_id() == NO_MODEL
    assert letta.agents == []


@pytest.mark.parametrize(
    ("handles", "wanted", "chosen"),
    [
        ([LETTA_FREE, "a/b", "a/c"], "", "a/b"),
        (["openai/o4-mini", "openai/gpt-4o-mini"], "", "openai/gpt-4o-mini"),
        ([LETTA_FREE, "a/b"], LETTA_FREE, LETTA_FREE),
        (["a/b"], "a/other", None),
        ([], "", None),
    ],
)
def test_the_model_is_the_wanted_one_or_the_first_that_is_fast(
    handles: list[str], wanted: str, chosen: str | None
) -> None:
    assert choose_model(handles, wanted) == chosen


async def test_a_conversation_knows_what_was_said_in_it_and_nothing_of_others(
    letta: LettaStandIn, client: LettaClient
) -> None:
    agent = await client.agent_id()
    one, other = client.conversation(agent), client.conversation(agent)
    assert await one.answer("hello") == "I heard hello, message 1."
    assert await one.answer("again") == "I heard again, message 2."
    assert await other.answer("hello") == "I heard hello, message 1."


@pytest.mark.parametrize("fault", ["slow", "500", "model", "token"])
async def test_every_fault_is_a_letta_error_within_the_deadline_and_at_once_in_the_next_turn(
    letta: LettaStandIn, client: LettaClient, fault: str
) -> None:
    talk = client.conversation(await client.agent_id())
    if fault == "slow":
        letta.delay_s = 30
    elif fault == "500":
        letta.status = 500
    elif fault == "model":
        letta.model_fails = True
    else:
        talk = LettaClient(
            url=client.url, token="wrong", name="voice", instructions="Be brief."
        ).conversation("agent-0")
    began = time.monotonic()
    with pytest.raises(LettaError):
        await talk.answer("hello", timeout_s=0.3)
    assert time.monotonic() - began < 5
    asked = letta.requests.total()
    with pytest.raises(LettaError, match="a moment ago"):
        await talk.answer("hello", timeout_s=0.3)
    assert letta.requests.total() == asked


async def test_a_server_that_is_away_or_is_no_letta_is_a_letta_error(client: LettaClient) -> None:
    away = LettaClient(url="http://127.0.0.1:9", token=TOKEN, name="voice", instructions="")
    with pytest.raises(LettaError, match="can't be reached"):
        await away.agent_id()


async def test_what_is_not_expected_is_a_letta_error(letta: LettaStandIn, client: LettaClient) -> None:
    letta.agents = [{"name": "voice"}]
    with pytest.raises(LettaError, match="not expected"):
        await client.agent_id()


async def test_a_conversation_goes_on_once_letta_is_back(letta: LettaStandIn, client: LettaClient) -> None:
    talk = client.conversation(await client.agent_id())
    letta.status = 500
    with pytest.raises(LettaError, match="500"):
        await talk.answer("hello", retry_after_s=0)
    letta.status = 200
    assert await talk.answer("hello") == "I heard hello, message 1."


def test_events_and_texts_of_other_forms_are_read() -> None:
    assert [event_of(line) for line in (b"\n", b": ping\n", b"data: [DONE]\n")] == [None] * 3
    assert text_of([{"type": "text", "text": "Hello"}, {"type": "text", "text": "there"}]) == "Hello there"
    assert text_of(None) == ""


def test_its_token_is_not_shown() -> None:
    assert "secret" not in repr(LettaClient(url="", token="secret", name="", instructions=""))
