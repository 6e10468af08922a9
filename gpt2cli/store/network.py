"""Why the hub cannot be asked, or what it answered, in words: settings of this machine, and the client's exceptions.

A setting that is wrong is found before anybody is asked, where it can be: that is no missing network (NetworkError,
not Unreachable). The client's classes are told by their names: newer clients have them from another library."""

import errno
import importlib.util
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gpt2cli.errors import NetworkError, StorageError, Unreachable, UserError
from gpt2cli.paths import FULL
from gpt2cli.store import hubcache
from gpt2cli.store.hubcache import Repository

_LOCAL_ERRORS = {
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, *FULL),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
}
_AGAIN = "check the network and try again"
_NO_HUB = "check HF_ENDPOINT and proxies; or does this network want a login first?"
# Exceptions of the client (or above) that mean that nobody answered; those of the system are OSErrors.
_SILENCE = {"TimeoutException", "NetworkError", "RemoteProtocolError", "ProxyError", "OSError"}
# Answers that are none of a hub.
_NONSENSE = {"JSONDecodeError", "KeyError", "TypeError", "AttributeError", "ValueError", "DecodingError"}
_NONSENSE |= {"UnsupportedProtocol", "InvalidURL"}


def endpoint() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def host() -> str:
    """The endpoint as it is shown."""
    return _shown(endpoint())


def way() -> str:
    """How it is reached, where a proxy is between."""
    variable = _proxy()
    return f" through the proxy of {variable}" if variable else ""


def check_settings() -> None:
    """Opens the client, which asks nobody. Raises NetworkError, which names the setting that is wrong."""
    with hubcache.importing():
        from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    if not _is_address(endpoint(), ("http", "https")):
        raise NetworkError(f"HF_ENDPOINT is no address of a hub: '{host()}'", "write it as https://HOST, or unset it")
    _check_token()
    _check_proxies()
    _check_certificates()
    try:
        get_session()
    except Exception as error:
        raise NetworkError(
            f"the client of the hub cannot start: {type(error).__name__}",
            "check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY and SSL_CERT_FILE",
        ) from None


def _check_token() -> None:
    """What is sent with every request has to be a header's text. (Only the client itself may renew a token.)"""
    from huggingface_hub import constants

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return
    names = (name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(name, "").strip())
    where = next(names, constants.HF_TOKEN_PATH)
    try:
        token = os.environ.get(where) or Path(where).read_bytes().decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise NetworkError(f"cannot read the token in {where}: {error.strerror}", "set HF_TOKEN instead") from None
    token = token.replace("\r", "").replace("\n", "").strip()
    if not (token.isascii() and token.isprintable()):
        raise NetworkError(
            f"the token in {where} has a character that no token has", f"copy it again from {host()}/settings/tokens"
        )


def _check_proxies() -> None:
    found = _proxies()
    if "*" in (name.strip() for name in found.get("no", "").split(",")):
        return
    for kind in ("http", "https", "all"):
        value, variable = found.get(kind), _variable(kind)
        if not value:
            continue
        value = value if "://" in value else f"http://{value}"
        if not _is_address(value, ("http", "https", "socks5", "socks5h")) or urlsplit(value).path.strip("/"):
            raise NetworkError(
                f"{variable} is no address of a proxy: '{_shown(value)}'", "write it as http://HOST:PORT, or unset it"
            )
        if value.lower().startswith("socks") and importlib.util.find_spec("socksio") is None:
            raise NetworkError(
                f"{variable} is a SOCKS proxy, for which the package socksio is missing",
                f"pip install socksio; or set {variable} to an http:// proxy",
            )


def _check_certificates() -> None:
    import ssl

    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file:
        try:
            ssl.create_default_context(cafile=file)
        except (OSError, ValueError) as error:
            reason = "no certificates in PEM" if isinstance(error, ssl.SSLError) else getattr(error, "strerror", error)
            raise NetworkError(
                f"SSL_CERT_FILE cannot be used: '{file}': {reason}", "give the path of a PEM file, or unset it"
            ) from None
    elif folder and not any(Path(one).is_dir() for one in folder.split(os.pathsep)):
        raise NetworkError(
            f"SSL_CERT_DIR names no folder: '{folder}'", "give the path of a folder with certificates, or unset it"
        )


def _is_address(text: str, schemes: Iterable[str]) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises, where it is no number
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname) and text.isprintable() and " " not in text


def _shown(address: str) -> str:
    """Without the name and password that it may hold."""
    return re.sub("//.*@", "//", address)


def _proxies() -> dict[str, str]:
    """Of the environment, or else of the system."""
    from urllib.request import getproxies  # 30 ms that only who asks the hub pays

    return getproxies()


def _proxy() -> str | None:
    """The variable of the proxy between us and the endpoint."""
    from urllib.request import proxy_bypass

    parts, found = urlsplit(endpoint()), _proxies()
    kind = next((kind for kind in (parts.scheme, "all") if found.get(kind)), None)
    return _variable(kind) if kind and not proxy_bypass(parts.hostname or "") else None


def _variable(kind: str) -> str:
    """What sets the proxy of this kind."""
    names = (f"{kind}_proxy", f"{kind}_PROXY".upper())
    return next((name for name in names if os.environ.get(name)), "the system's settings")


def status_of(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def page(repository: Repository) -> str:
    """Where a person reads about a repository."""
    kinds = {"dataset": "datasets/"}
    return f"{host()}/{kinds.get(repository.kind, '')}{repository.name}"


def is_local(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _LOCAL_ERRORS


def explained(error: BaseException, repository: Repository | None, *, local: bool = True) -> UserError:
    """The client's exceptions in our words. Never the exception's own text: it may hold signed addresses. `local`:
    files were written, and errors of the system may be about them."""
    if isinstance(error, UserError):
        return error
    if is_local(error) and (local or getattr(error, "filename", None)):
        assert isinstance(error, OSError)
        where = f"'{error.filename}'" if error.filename else "the Hugging Face cache"
        if not local:
            return StorageError(f"cannot read {where}: {error.strerror}", f"set {hubcache.setting()} to another folder")
        return StorageError(
            f"cannot write {where}: {error.strerror}", f"make room, or set {hubcache.setting()} to another folder"
        )
    kind, status = type(error).__name__, status_of(error)
    if kind == "HFValidationError":
        return NetworkError(f"'{repository}' is no name that a hub can have", "names look like owner/name")
    if kind == "GatedRepoError":
        return NetworkError(
            f"'{repository}' is gated: its owners want you to agree to their conditions first",
            f"agree at {page(repository) if repository else host()}, then set HF_TOKEN (or: hf auth login)",
        )
    if kind == "RepositoryNotFoundError":
        return NetworkError(
            f"the hub has no '{repository}', or it is private ({status})",
            "check the name; for a private one set HF_TOKEN (or: hf auth login)",
        )
    if kind == "RevisionNotFoundError" and repository:
        return NetworkError(
            f"'{repository.name}' has no revision '{repository.revision}'", "leave out @REVISION for the newest"
        )
    if status is not None:
        return _refusal(error, status)
    if kind == "TooManyRedirects":
        return NetworkError(f"{host()} sends from one address to another without end", _NO_HUB)
    if kind in _NONSENSE:
        return NetworkError(f"{host()} answers, but not like a Hugging Face hub", _NO_HUB)
    if kind == "ProxyError":
        return _proxy_refusal(error)
    return _unreached(error)


def _refusal(error: BaseException, status: int) -> NetworkError:
    response: Any = getattr(error, "response")  # noqa: B009 - only some exceptions have it
    if status == 407:
        return _wants_password()
    phrase = getattr(response, "reason_phrase", None) or getattr(response, "reason", "") or ""
    wait = response.headers.get("Retry-After")
    hint = f"wait {wait} seconds and try again" if wait else "try again later"
    if status in (401, 403):
        hint = "check HF_TOKEN (or: hf auth login)"
    elif status == 404:
        hint = _NO_HUB
    return NetworkError(f"{host()} answered {status} {phrase}".rstrip(), hint)


def _wants_password() -> NetworkError:
    variable = _proxy() or "HTTPS_PROXY"
    return NetworkError(
        f"the proxy of {variable} wants a name and a password, or other ones",
        f"write them into {variable} before the host: NAME:PASSWORD@HOST:PORT",
    )


def _proxy_refusal(error: BaseException) -> NetworkError:
    """Its text begins with the status that the proxy answered; a SOCKS proxy's is in words."""
    status = re.match(r"\d{3}\b", str(error))
    if (status and status[0] == "407") or re.search("auth|username|acceptable", str(error), re.IGNORECASE):
        return _wants_password()
    if status and not status[0].startswith("5"):  # 502, 503, 504: the proxy itself did not reach the hub
        return NetworkError(
            f"the proxy of {_proxy()} refuses to connect to {host()} ({status[0]})",
            f"ask whoever runs it, or unset {_proxy()}",
        )
    return Unreachable(f"{host()} cannot be reached: the proxy of {_proxy()} does not get there", _AGAIN)


def _unreached(error: BaseException) -> NetworkError:
    """Nobody answered; or the two do not agree how to talk, which no waiting mends."""
    import ssl

    variable = _proxy()
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NetworkError(f"the certificate of {host()} is not trusted: {cause.verify_message}", _certificates())
        if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            value = _proxies().get(urlsplit(endpoint()).scheme) or _proxies().get("all", "")
            setting = variable if variable and value.startswith("https:") else "HF_ENDPOINT"
            return NetworkError(
                f"{host()}{way()} answers without TLS, which https:// asks for", f"write http:// in {setting}"
            )
    if not _SILENCE.intersection(one.__name__ for one in type(error).__mro__):
        return NetworkError(
            f"{host()} cannot be asked: {type(error).__name__}", "check HF_ENDPOINT, HF_TOKEN and proxies"
        )
    hint = f"check the network and {variable}, and try again" if variable else _AGAIN
    return Unreachable(f"{host()} cannot be reached{way()}: {_reason(error)}", hint)


def _certificates() -> str:
    """What mends a certificate that is not trusted."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if os.environ.get(name) and not os.environ.get("SSL_CERT_FILE"):
            return f"{name} is not read: set SSL_CERT_FILE={os.environ[name]}"
    return "check the clock; behind a proxy that opens TLS set SSL_CERT_FILE to a PEM file with its certificate"


def _reason(error: BaseException) -> str:
    """Why nobody answered, in words."""
    import socket

    kinds: dict[type[OSError], str] = {
        socket.gaierror: "there is no network, or no such host",
        TimeoutError: "no answer in time",
        ConnectionRefusedError: "it refuses the connection",
        ConnectionError: "the connection was cut",
    }
    if type(error).__name__ == "OfflineModeIsEnabled":
        return "HF_HUB_OFFLINE forbids it"
    for cause in _causes(error):
        if type(cause).__name__ == "RemoteProtocolError":
            return "the connection was cut"
        for kind, words in kinds.items():
            if isinstance(cause, kind):
                return words
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return type(error).__name__


def _causes(error: BaseException) -> Iterable[BaseException]:
    """The exception and what led to it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
