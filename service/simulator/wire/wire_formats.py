"""Puts each vendor's wire format together from its requests, replies, errors and lookalikes."""

from __future__ import annotations

from service.simulator.accounting.image_tokens import ImageRule
from service.simulator.contracts import Wire
from service.simulator.wire.anthropic.errors import AnthropicErrors
from service.simulator.wire.anthropic.lookalikes import ANTHROPIC_LOOKALIKES
from service.simulator.wire.anthropic.message_replies import AnthropicReplies
from service.simulator.wire.anthropic.message_requests import AnthropicRequests
from service.simulator.wire.openai.chat_replies import OpenAIReplies
from service.simulator.wire.openai.chat_requests import OpenAIRequests
from service.simulator.wire.openai.errors import OpenAIErrors
from service.simulator.wire.openai.lookalikes import OPENAI_LOOKALIKES


def openai_wire(image_rule: ImageRule) -> Wire:
    """Makes OpenAI's wire format.

    Args:
        image_rule: rule that bills pictures of models of no known family.
    """
    return Wire(
        name="openai",
        path="/v1/chat/completions",
        requests=OpenAIRequests(image_rule),
        replies=OpenAIReplies(),
        errors=OpenAIErrors(),
        lookalikes=OPENAI_LOOKALIKES,
    )


def anthropic_wire() -> Wire:
    """Makes Anthropic's wire format."""
    return Wire(
        name="anthropic",
        path="/v1/messages",
        requests=AnthropicRequests(),
        replies=AnthropicReplies(),
        errors=AnthropicErrors(),
        lookalikes=ANTHROPIC_LOOKALIKES,
    )
