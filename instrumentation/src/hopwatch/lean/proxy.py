"""The proxy that the environment asks for, as other clients on the machine understand it."""

import os
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where to connect instead, and what to say there."""

    host: str
    port: int
    headers: dict[str, str]


def proxy_for(scheme: str, host: str) -> Proxy | None:
    """Return the proxy for a host after `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, if there is one."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib import request  # heavy, and seldom needed

    proxies = request.getproxies_environment()
    said = proxies.get(scheme) or proxies.get("all")
    if not said or request.proxy_bypass_environment(host, proxies):  # type: ignore[attr-defined]  # everywhere but in stubs
        return None
    url = urlsplit(said if "://" in said else f"http://{said}")
    if not url.hostname:
        return None
    headers = {}
    if url.username is not None:
        login = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["proxy-authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    return Proxy(url.hostname, url.port or 80, headers)
