"""What no schema can say of good requests: those that would be refused for it are left out."""

import time

import schemathesis

YEAR = 366 * 24 * 60 * 60


def has_two_keys(case):
    """An idempotency key stands in the body or in the header."""
    in_body = isinstance(case.body, dict) and "idempotency_key" in case.body
    return in_body and "Idempotency-Key" in (case.headers or {})


def is_far(message):
    """A message is scheduled for a time within a year."""
    at = message.get("send_at") if isinstance(message, dict) else None
    return isinstance(at, (int, float)) and at > time.time() + YEAR - 60


@schemathesis.hook
def filter_case(context, case):
    body = case.body if isinstance(case.body, dict) else {}
    messages = body.get("messages")
    messages = messages if isinstance(messages, list) else []
    return not has_two_keys(case) and not any(map(is_far, [body, *messages]))
