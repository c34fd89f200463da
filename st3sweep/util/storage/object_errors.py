"""Say in one line what an object store has refused, and whether it passes by itself."""

from __future__ import annotations

import errno
from typing import Any

from st3sweep.util.errors import UserError

_PASSING = {
    "SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling", "ThrottlingException",
    "TooManyRequests", "RequestLimitExceeded", "OperationAborted", "ConditionalRequestConflict",
    "408", "409", "429", "500", "502", "503", "504",
}  # fmt: skip
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"}
_WORDS = {
    "AccessDenied": "refused: these credentials may not do that (is the bucket read-only for them?)",
    "AllAccessDisabled": "refused: all access to the bucket is disabled",
    "AuthorizationHeaderMalformed": "is in another region; set AWS_DEFAULT_REGION to the bucket's",
    "IllegalLocationConstraintException": "is in another region; set AWS_DEFAULT_REGION to the bucket's",
    "InvalidAccessKeyId": "refused: the store does not know this access key",
    "NoSuchBucket": "there is no such bucket",
    "PermanentRedirect": "is in another region; set AWS_DEFAULT_REGION to the bucket's",
    "RequestTimeTooSkewed": "refused: this machine's clock is wrong; set it, then try again",
    "SignatureDoesNotMatch": "refused: the secret key does not fit the access key",
    "403": "refused: these credentials may not do that (is the bucket read-only for them?)",
    "301": "is in another region; set AWS_DEFAULT_REGION to the bucket's",
    "400": "refused: a bad request (is AWS_DEFAULT_REGION the bucket's region?)",
}
_NO_CREDENTIALS = {
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError",
    "ProfileNotFound", "UnauthorizedSSOTokenError", "SSOTokenLoadError", "DefaultCredentialsError",
}  # fmt: skip
_UNREACHABLE = {
    "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError", "ClientPayloadError",
    "ServerDisconnectedError", "ProxyConnectionError", "FSTimeoutError", "IncompleteRead", "HTTPClientError",
    "ResponseParserError", "ClientConnectorError", "ResponseStreamingError", "TimeoutError",
}  # fmt: skip


class StoreError(OSError):
    """An object store has refused a request, in one line. ``passes``: it may succeed if repeated.

    ``expired``: its credentials were valid once.
    """

    def __init__(self, text: str, *, passes: bool = False, expired: bool = False):
        super().__init__(errno.EIO, text)
        self.text, self.passes, self.expired = text, passes, expired

    def __str__(self) -> str:
        return self.text


def missing_package(url: str) -> UserError:
    """Return the error for a store whose package is not installed."""
    extra = url.partition("://")[0]
    return UserError(f"{url}: needs the extra {extra}; install it with: pip install 'st3sweep[{extra}]'")


def explained(url: str, error: BaseException) -> OSError:
    """Return the error of a request as FileNotFoundError or FileExistsError of an object, or as StoreError."""
    codes = _codes(error)
    names = {kind.__name__ for one in _chain(error) for kind in type(one).__mro__}
    bucket = "/".join(url.split("/")[:3])
    if isinstance(error, FileExistsError) or codes & {"PreconditionFailed", "412"}:
        return FileExistsError(f"{url}: exists")
    if codes & _EXPIRED:
        return StoreError(f"{bucket}: the credentials have expired", expired=True)
    if known := [code for code in codes if code in _WORDS]:
        return StoreError(f"{bucket}: {_WORDS[min(known, key=lambda code: (code.isdigit(), code))]}")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"{url}: not found")
    if names & _NO_CREDENTIALS:
        return StoreError(f"{bucket}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
    if isinstance(error, PermissionError):
        return StoreError(f"{bucket}: {_WORDS['AccessDenied']}")
    if codes & _PASSING or getattr(error, "errno", None) == errno.EBUSY:
        return StoreError(f"{bucket}: the store is busy", passes=True)
    if names & _UNREACHABLE or isinstance(error, ConnectionError):
        return StoreError(f"{bucket}: cannot be reached", passes=True)
    kind = ", ".join(sorted(codes)) or type(error).__name__
    return StoreError(f"{bucket}: the request failed ({kind})", passes=not codes)


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and len(found) < 5:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _codes(error: BaseException) -> set[str]:
    """Return the store's codes for the error: S3's name and the number of HTTP."""
    codes: set[str] = set()
    for one in _chain(error):
        response: Any = getattr(one, "response", None)
        if isinstance(response, dict):
            codes |= {str(response.get("Error", {}).get("Code", ""))}
            codes |= {str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))}
        status = getattr(one, "status", None) or getattr(one, "code", None) or getattr(one, "status_code", None)
        if isinstance(status, int | str) and status:
            codes.add(str(status))
    return codes - {"", "404"}
