"""A valid body for every route that takes one, with as many of its fields as go together."""

from __future__ import annotations

from typing import Any

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA}
SAMPLING: dict[str, Any] = {
    "max_tokens": 9,
    "temperature": 0.5,
    "top_p": 0.9,
    "n": 2,
    "stop": ["zz", "qq"],
    "seed": 5,
    "presence_penalty": 0.1,
    "frequency_penalty": -0.1,
    "logit_bias": {"5": 1},
    "user": "me",
    "stream": True,
    "stream_options": {"include_usage": True},
}
RESPONSES: dict[str, Any] = {
    "model": "echo",
    "instructions": "I",
    "stream": True,
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "r"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "1"},
    ],
    "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}],
    "tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "f"}]},
    "text": {"format": {"type": "text"}},
    "reasoning": {"effort": "low"},
    "max_output_tokens": 9,
    "include": ["message.output_text.logprobs"],
    "metadata": {"a": "b"},
}
MESSAGES: dict[str, Any] = {
    "model": "mock",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "S"}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "h", "signature": ""},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [{"type": "text", "text": "1"}],
                },
                {"type": "document", "source": {"type": "text", "data": "d"}},
            ],
        },
    ],
    "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA}],
    "tool_choice": {"type": "auto"},
    "thinking": {"type": "enabled", "budget_tokens": 5},
    "stop_sequences": ["zz"],
    "metadata": {"user_id": "me"},
    "output_config": {"effort": "low"},
}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "mock",
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": "1"},
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "logprobs": True,
        "top_logprobs": 2,
        "reasoning_effort": "low",
        "chat_template_kwargs": {"a": 1},
        **SAMPLING,
    },
    "/v1/completions": {"model": "echo", "prompt": ["ab", "cd"], "logprobs": 2, **SAMPLING},
    "/v1/responses": RESPONSES,
    "/v1/responses/input_tokens": RESPONSES,
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": MESSAGES,
    "/tokenize": {
        "model": "mock",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
        "tools": [{"type": "function", "function": FUNCTION}],
        "chat_template_kwargs": {"a": 1},
        "return_token_strs": True,
    },
    "/detokenize": {"model": "mock", "tokens": [1, 2, 3]},
    "/v1/embeddings": {
        "model": "vectors",
        "input": ["ab", "cd"],
        "dimensions": 16,
        "encoding_format": "float",
        "user": "me",
    },
    "/busy_threshold": {
        "model": "slow",
        "active_decode_blocks_threshold": 0.5,
        "active_prefill_tokens_threshold": 1000,
    },
}
