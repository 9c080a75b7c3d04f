"""Every error the collector raises on purpose, classed by what the caller should do about it.

CollectorError
├── PermanentError          asking again changes nothing
│   ├── SettingsError       the collector cannot start like this (exit code 2)
│   ├── StartError          something it needs is not to be had: a port, the data directory (exit code 1)
│   ├── Unauthorised        no token, or a wrong one
│   ├── MalformedRequest    bytes that are not what they claim to be
│   ├── RequestTooLarge     over the limit on size, compressed or not
│   ├── UnsupportedRequest  a content type or encoding we do not speak
│   ├── BodyTimeout         the body took too long to arrive
│   ├── EngineRefusal       the engine understood and said no; the same bytes will be refused again
│   ├── InvalidCursor       a page was asked for by something that no answer gave
│   └── QueryLimit          the question would take more time, memory or rows than one may
└── RetryableError          the same request may succeed later
    ├── Overloaded          too many bytes in hand right now
    ├── JournalFull         the backlog has reached its bound
    ├── JournalFailed       the disk did not take the bytes
    └── EngineUnavailable   the engine could not be asked, or could not answer now
"""


class CollectorError(Exception):
    """Base of all; `str()` of it is a sentence for a person."""


class PermanentError(CollectorError):
    """Asking again changes nothing."""


class SettingsError(PermanentError):
    """The collector cannot start with these settings; the text says what to change, a line per mistake."""


class StartError(PermanentError):
    """Something needed at start is not to be had; the text says what and why."""


class Unauthorised(PermanentError):
    """No token was shown, or a wrong one."""


class MalformedRequest(PermanentError):
    """The bytes are not what they claim to be."""


class RequestTooLarge(PermanentError):
    """Over the limit on size, before or after decompression."""


class UnsupportedRequest(PermanentError):
    """A content type or content encoding we do not speak."""


class BodyTimeout(PermanentError):
    """The request's body took too long to arrive."""


class EngineRefusal(PermanentError):
    """The engine understood the statement and said no; the same bytes will be refused again."""


class InvalidCursor(PermanentError):
    """A page was asked for by a cursor that no earlier answer gave."""


class QueryLimit(PermanentError):
    """The question would take more time, memory or rows than one question may; a narrower one may not."""


class RetryableError(CollectorError):
    """The same request may succeed after `retry_after_s` seconds."""

    retry_after_s: float = 1.0


class Overloaded(RetryableError):
    """More bytes are being received than we agreed to hold at once."""


class JournalFull(RetryableError):
    """The journal's backlog has reached its bound; the engine has to catch up first."""

    retry_after_s = 5.0


class JournalFailed(RetryableError):
    """The disk did not take the bytes (full, or failing); nothing of them is kept."""

    retry_after_s = 5.0


class EngineUnavailable(RetryableError):
    """The engine could not be asked, or could not answer now."""
