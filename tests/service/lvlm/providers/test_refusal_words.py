"""Real refusals of servers: those that name a field, and those of other things in similar words."""

# ruff: noqa: E501 - servers' sentences stay as they are

from __future__ import annotations

from typing import Any

import pytest

from service.lvlm.providers.base import Call, Image, Prompt, Text
from service.lvlm.providers.wire.dialect import Dialect
from service.lvlm.providers.wire.refused_fields import adapted, changed_field

PROMPT = Prompt("Rank.", (Image(b"x", "image/jpeg", 10, 10), Text("data")), {"type": "object"}, "v")
CALL = Call(PROMPT, "m", 100)
OLDER, NEWER = Dialect(output_cap="max_tokens"), Dialect()

Refusal = tuple[int, object, Dialect]


def error(message: str, **more: object) -> dict[str, Any]:
    return {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}


NAMED: list[tuple[str, Refusal]] = [
    (
        "stream_options",
        (
            422,
            {
                "object": "error",
                "message": {
                    "detail": [
                        {
                            "type": "extra_forbidden",
                            "loc": ["body", "stream_options"],
                            "msg": "Extra inputs are not permitted",
                            "input": {},
                        }
                    ]
                },
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            },
            OLDER,
        ),
    ),
    (
        "stream_options",
        (
            400,
            [
                {
                    "error": {
                        "code": 400,
                        "message": 'Invalid JSON payload received. Unknown name "stream_options": Cannot find field.',
                        "status": "INVALID_ARGUMENT",
                    }
                }
            ],
            OLDER,
        ),
    ),
    (
        "output_cap",
        (
            400,
            {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {
                    "raw": '{"error":{"message":"Unsupported parameter: \'max_tokens\' is not supported with this model. Use \'max_completion_tokens\' instead."}}',
                    "provider_name": "OpenAI",
                },
            },
            OLDER,
        ),
    ),
    ("images", (404, error("No endpoints found that support image input", code=404), OLDER)),
    (
        "images",
        (
            500,
            {
                "code": 500,
                "message": "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
                "type": "server_error",
            },
            OLDER,
        ),
    ),
    (
        "images",
        (
            500,
            error(
                "Failed to create new sequence: failed to process inputs: this model is missing data required for image input"
            ),
            OLDER,
        ),
    ),
    (
        "images",
        (
            400,
            error("At most 0 image(s) may be provided in one prompt.", type="BadRequestError", code=400),
            OLDER,
        ),
    ),
    ("images", (400, error("mistralai/Mistral-7B is not a multimodal model None"), OLDER)),
    (
        "images",
        (
            400,
            error(
                "Failed to deserialize the JSON body into the target type: messages[1]: unknown variant `image_url`, expected `text` at line 1 column 2000"
            ),
            OLDER,
        ),
    ),
    (
        "images",
        (
            400,
            error(
                "Invalid content type. image_url is only supported by certain models.",
                param="messages.[1].content.[0].type",
                code="invalid_value",
            ),
            OLDER,
        ),
    ),
    ("images", (400, "Model does not support images. Please use a model that does.", OLDER)),
    ("images", (400, error("Image input modality is not enabled for models/gemma-3-1b-it"), OLDER)),
    ("images", (400, error("This model does not support vision"), OLDER)),
    ("images", (400, error("Image content is not supported by this model"), OLDER)),
    ("images", (400, error("Unsupported content type: image_url"), OLDER)),
    ("content_parts", (400, error("messages[1].content must be a string", param=None), OLDER)),
    (
        "content_parts",
        (
            422,
            {
                "detail": [
                    {
                        "type": "string_type",
                        "loc": ["body", "messages", 1, "content"],
                        "msg": "Input should be a valid string",
                    }
                ]
            },
            OLDER,
        ),
    ),
    ("content_parts", (400, error("invalid type: sequence, expected a string at line 1 column 55"), OLDER)),
    (
        "content_parts",
        (
            422,
            "Failed to deserialize the JSON body into the target type: messages[1].content: invalid type: sequence, expected a string at line 1 column 123",
            OLDER,
        ),
    ),
    (
        "content_parts",
        (
            400,
            error(
                "json: cannot unmarshal array into Go struct field ChatCompletionMessage.messages.content of type string"
            ),
            OLDER,
        ),
    ),
    (
        "content_parts",
        (
            400,
            error(
                "Invalid type for 'messages[1].content': expected a string, but got an array instead.",
                param="messages[1].content",
                code="invalid_type",
            ),
            OLDER,
        ),
    ),
    ("system_role", (400, error("System role not supported"), OLDER)),
    (
        "system_role",
        (
            400,
            error(
                "Conversation roles must alternate user/assistant/user/assistant/...", type="BadRequestError"
            ),
            OLDER,
        ),
    ),
    ("system_role", (400, error("Only user and assistant roles are supported!"), OLDER)),
    ("system_role", (400, error("Developer instruction is not enabled for models/gemma-3-27b-it"), OLDER)),
    (
        "system_role",
        (
            400,
            error(
                "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
                param="messages[0].role",
                code="unsupported_value",
            ),
            OLDER,
        ),
    ),
    ("system_role", (400, error("Invalid role: system"), OLDER)),
    ("structured_output", (400, error("This model does not support response format `json_schema`."), OLDER)),
    ("structured_output", (400, error("This response_format type is unavailable now"), OLDER)),
    (
        "structured_output",
        (
            400,
            error(
                "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
                param="response_format",
            ),
            OLDER,
        ),
    ),
    (
        "structured_output",
        (400, error("The provided JSON schema contains features not supported by xgrammar."), OLDER),
    ),
    ("structured_output", (400, "invalid JSON schema in format", OLDER)),
    ("structured_output", (400, error("JSON mode is not enabled for this model"), OLDER)),
    ("structured_output", (400, error("Structured outputs are not supported for this model"), OLDER)),
    ("structured_output", (400, error("'response_format.type' must be 'json_schema' or 'text'"), OLDER)),
    ("structured_output", (400, error("output_config: Extra inputs are not permitted"), OLDER)),
    (
        "structured_output",
        (400, error("output_config.format: structured output is not supported on this model"), OLDER),
    ),
    ("stream_options", (400, error("Unrecognized request argument supplied: stream_options"), OLDER)),
    (
        "stream_options",
        (
            400,
            error(
                "Unknown parameter: 'stream_options.include_usage'.",
                param="stream_options.include_usage",
                code="unknown_parameter",
            ),
            OLDER,
        ),
    ),
    (
        "stream_options",
        (
            400,
            error(
                "1 validation error: Additional properties are not allowed ('stream_options' was unexpected)"
            ),
            OLDER,
        ),
    ),
    ("image_detail", (400, error("Additional properties are not allowed ('detail' was unexpected)"), OLDER)),
    (
        "image_detail",
        (
            422,
            {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "messages", 1, "content", "list[union]", 0, "image_url", "detail"],
                        "msg": "Extra inputs are not permitted",
                    }
                ]
            },
            OLDER,
        ),
    ),
    (
        "output_cap",
        (400, error("Unknown parameter: 'max_completion_tokens'.", param="max_completion_tokens"), NEWER),
    ),
    ("output_cap", (400, error("property 'max_completion_tokens' is unsupported"), NEWER)),
    (
        "output_cap",
        (
            422,
            {
                "detail": [
                    {
                        "loc": ["body", "max_completion_tokens"],
                        "msg": "extra fields not permitted",
                        "type": "value_error.extra",
                    }
                ]
            },
            NEWER,
        ),
    ),
    (
        "stream_options",
        (
            400,
            {"errors": [{"message": "stream_options: unknown field", "code": 5006}], "success": False},
            OLDER,
        ),
    ),
    (
        "images",
        (400, error("messages.0.content.0.type: Input should be 'text', 'tool_use' or 'tool_result'"), OLDER),
    ),
    ("system_role", (400, error("system: Extra inputs are not permitted"), OLDER)),
]
OTHERS: list[Refusal] = [
    (400, error("Invalid image data"), OLDER),
    (400, error("Could not process image"), OLDER),
    (400, error("Invalid base64 image_url.", code="invalid_base64"), OLDER),
    (
        400,
        error(
            "The image data you provided does not represent a valid image. Please check your input and try again with one of the supported image formats: ['image/jpeg', ...].",
            code="invalid_image_format",
        ),
        OLDER,
    ),
    (
        400,
        error(
            "You uploaded an unsupported image. Please make sure your image is below 20 MB in size and is of one the following formats: ['png', 'jpeg', 'gif', 'webp'].",
            code="invalid_image",
            param="messages[1].content[0].image_url",
        ),
        OLDER,
    ),
    (400, error("Failed to load image or audio file"), OLDER),
    (400, error("messages.0.content.0.image.source.base64: image exceeds 5 MB maximum"), OLDER),
    (400, error("Unable to process input image. Please retry or report", status="INVALID_ARGUMENT"), OLDER),
    (400, error("cannot identify image file <_io.BytesIO object at 0x7f>"), OLDER),
    (500, {"message": "cannot identify image file <_io.BytesIO object at 0x7f>", "code": 500}, OLDER),
    (500, {"message": "An unexpected error occurred while downloading the image", "code": 500}, OLDER),
    (
        400,
        error(
            "Your request was rejected as a result of our safety system. Your prompt may contain text that is not allowed by our safety system.",
            code="content_policy_violation",
        ),
        OLDER,
    ),
    (
        400,
        error(
            "The image violates our usage policies and cannot be processed.", code="content_policy_violation"
        ),
        OLDER,
    ),
    (
        400,
        error(
            "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt and retry.",
            param="prompt",
            code="content_filter",
        ),
        OLDER,
    ),
    (400, error("Output blocked by content filtering policy"), OLDER),
    (
        400,
        error(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy. system message not allowed"
        ),
        OLDER,
    ),
    (
        400,
        error(
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
            code="context_length_exceeded",
            param="messages",
        ),
        OLDER,
    ),
    (
        400,
        error(
            "The decoder prompt (length 5049) is longer than the maximum model length of 4096. Make sure that `max_model_len` is no smaller than the number of text tokens plus multimodal tokens. For image inputs, the number of image tokens depends on the number of images and their aspect ratios as well."
        ),
        OLDER,
    ),
    (400, error("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000"), OLDER),
    (
        400,
        error(
            "Prompt length must be less than 4096: 3000 text tokens + 1200 image tokens; use a shorter prompt"
        ),
        OLDER,
    ),
    (400, error("Your credit balance is too low to access the API. Please use another plan"), OLDER),
    (
        404,
        error(
            "The model `llama-3.2-11b-vision-preview` does not exist or you do not have access to it.",
            code="model_not_found",
        ),
        OLDER,
    ),
    (
        400,
        error("The model `llama-3.2-90b-vision-preview` has been decommissioned and is no longer supported."),
        OLDER,
    ),
    (400, error("Invalid model: must be one of gpt-4o, gpt-4-vision"), OLDER),
    (400, error("You exceeded your current quota for images"), OLDER),
    (400, error("Invalid API key provided; use max_tokens credits"), OLDER),
    (400, error("max_tokens must be at least 1, got -3712."), OLDER),
    (
        400,
        error("max_tokens: 8192 > 4096, which is the maximum allowed number of output tokens for claude"),
        OLDER,
    ),
    (
        400,
        error(
            "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported.",
            param="temperature",
        ),
        OLDER,
    ),
    (429, error("image not supported"), OLDER),
    (500, error("An unexpected error occurred while decoding the image"), OLDER),
    (400, error("Image does not match the provided media type image/jpeg"), OLDER),
]


@pytest.mark.parametrize(("field", "refusal"), NAMED)
def test_a_field_that_is_refused_in_a_servers_own_words_is_found(field: str, refusal: Refusal) -> None:
    status, body, dialect = refusal
    following = adapted(dialect, CALL, status, body)
    assert following is not None
    assert changed_field(dialect, following) == field


@pytest.mark.parametrize("refusal", OTHERS)
def test_a_refusal_of_something_else_changes_no_dialect(refusal: Refusal) -> None:
    status, body, dialect = refusal
    assert adapted(dialect, CALL, status, body) is None
