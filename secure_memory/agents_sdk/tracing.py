"""RedactingProcessor: traces without personal data, for those who want inputs and outputs in their traces.

``set_trace_processors([RedactingProcessor(BatchTraceProcessor(exporter), session)])`` puts it before a processor of yours.
Whatever the policy in force treats on any surface is replaced by `[ENTITY]` in what a span or a trace exports: a trace goes
to others, keeps for long, and nobody acts on it. What can't be redacted is not exported (`[withheld]`).

Secure runs need it not: `secure_run_config` keeps inputs and outputs out of traces altogether.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from agents.tracing import Span, Trace, TracingProcessor

from secure_memory.agents_sdk.session import SecureSession
from secure_memory.scrubbing import WITHHELD, scrubber_of

_PLAIN = frozenset({"object", "id", "trace_id", "parent_id", "started_at", "ended_at", "type"})
"""What the SDK makes up: ids and times. What a workflow or a group of traces is called may be somebody's name."""
Scrub = Callable[[Any], Any]


class RedactingProcessor(TracingProcessor):
    """A tracing processor that hands on redacted spans and traces."""

    def __init__(self, inner: TracingProcessor, session: SecureSession) -> None:
        """`inner` is the processor that gets them; `session` is one of the store whose policy says what is personal data."""
        self._inner = inner
        self._session = session

    def on_trace_start(self, trace: Trace) -> None:
        """Hand on."""
        self._inner.on_trace_start(_RedactedTrace(trace, self._scrub))

    def on_trace_end(self, trace: Trace) -> None:
        """Hand on."""
        self._inner.on_trace_end(_RedactedTrace(trace, self._scrub))

    def on_span_start(self, span: Span[Any]) -> None:
        """Hand on."""
        self._inner.on_span_start(_RedactedSpan(span, self._scrub))

    def on_span_end(self, span: Span[Any]) -> None:
        """Hand on."""
        self._inner.on_span_end(_RedactedSpan(span, self._scrub))

    def shutdown(self) -> None:
        """Hand on."""
        self._inner.shutdown()

    def force_flush(self) -> None:
        """Hand on."""
        self._inner.force_flush()

    def _scrub(self, value: Any) -> Any:
        try:
            return scrubber_of(self._session._handle.shared.policy).value(value)
        except Exception:  # the store is closed, or its repr raises, or else: nobody can tell what is in it
            return WITHHELD


def _exported(exported: dict[str, Any] | None, scrub: Scrub) -> dict[str, Any] | None:
    return exported and {key: value if key in _PLAIN else scrub(value) for key, value in exported.items()}


class _RedactedTrace(Trace):
    """A trace as it may be handed on."""

    def __init__(self, trace: Trace, scrub: Scrub) -> None:
        self._trace = trace
        self._scrub = scrub

    def __enter__(self) -> Trace:
        return self._trace.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._trace.__exit__(*error)  # type: ignore[no-untyped-call]

    def start(self, mark_as_current: bool = False) -> None:
        """As the trace does."""
        self._trace.start(mark_as_current)

    def finish(self, reset_current: bool = False) -> None:
        """As the trace does."""
        self._trace.finish(reset_current)

    @property
    def trace_id(self) -> str:
        """As it is."""
        return self._trace.trace_id

    @property
    def name(self) -> str:
        """The workflow's, redacted."""
        return str(self._scrub(self._trace.name))

    @property
    def tracing_api_key(self) -> str | None:
        """As it is."""
        return self._trace.tracing_api_key

    def export(self) -> dict[str, Any] | None:
        """What is exported, redacted."""
        return _exported(self._trace.export(), self._scrub)


class _RedactedSpan(Span[Any]):
    """A span as it may be handed on."""

    def __init__(self, span: Span[Any], scrub: Scrub) -> None:
        self._span = span
        self._scrub = scrub

    def __enter__(self) -> Span[Any]:
        return self._span.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._span.__exit__(*error)  # type: ignore[no-untyped-call]

    def start(self, mark_as_current: bool = False) -> None:
        """As the span does."""
        self._span.start(mark_as_current)

    def finish(self, reset_current: bool = False) -> None:
        """As the span does."""
        self._span.finish(reset_current)

    def set_error(self, error: Any) -> None:
        """As the span does."""
        self._span.set_error(error)

    @property
    def trace_id(self) -> str:
        """As it is."""
        return self._span.trace_id

    @property
    def span_id(self) -> str:
        """As it is."""
        return self._span.span_id

    @property
    def parent_id(self) -> str | None:
        """As it is."""
        return self._span.parent_id

    @property
    def started_at(self) -> str | None:
        """As it is."""
        return self._span.started_at

    @property
    def ended_at(self) -> str | None:
        """As it is."""
        return self._span.ended_at

    @property
    def tracing_api_key(self) -> str | None:
        """As it is."""
        return self._span.tracing_api_key

    @property
    def trace_metadata(self) -> dict[str, Any] | None:
        """The trace's metadata, redacted."""
        return self._scrub(self._span.trace_metadata)  # type: ignore[no-any-return]

    @property
    def error(self) -> Any:
        """The error, redacted: its words may be a tool's, with what it was given."""
        return self._scrub(self._span.error)

    @property
    def span_data(self) -> Any:
        """A copy of the data, redacted: some processors read its fields, and not what it exports."""
        data = copy.copy(self._span.span_data)
        for name, value in vars(data).items():
            setattr(data, name, self._field(value))
        return data

    def _field(self, value: Any) -> Any:
        # A response of the API is handed on as the JSON that it is.
        return self._scrub(value.model_dump(mode="json") if hasattr(value, "model_dump") else value)

    def export(self) -> dict[str, Any] | None:
        """What is exported, redacted."""
        return _exported(self._span.export(), self._scrub)
