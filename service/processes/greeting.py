"""Writes what the terminal shows when the service is ready: its address and three commands to try."""

from __future__ import annotations

import json

from service.catalogue.bundle import Bundle
from service.settings import Settings


def greeting(settings: Settings, bundle: Bundle) -> str:
    """Returns the lines for a service that is ready.

    Args:
        settings: settings of the deployment, with the address of the simulator if one is in use.
        bundle: bundle that is served.
    """
    url = f"http://{_reachable(settings.host)}:{settings.port}"
    catalogue = bundle.catalogue
    user_id = next(iter(catalogue.histories.users), None)
    history = [catalogue.items[row].item_id for row in catalogue.popular[:2]]
    by_history = json.dumps({"history": history, "k": 5})
    by_user = json.dumps({"user_id": user_id, "k": 5}) if user_id else by_history
    # The variable and never its value, which would stay in the log and in the shell's history.
    key = ' -H "Authorization: Bearer $MSR_API_KEY"' if settings.api_key.get_secret_value() else ""
    post = f"curl -s -X POST{key} -H 'content-type: application/json' '{url}/recommend?strategy="
    return (
        f"\nMSR Serve is ready at {url}  ({catalogue.manifest.dataset}: {len(catalogue.items)} items, "
        f"{catalogue.manifest.users} users, backbones {', '.join(bundle.backbones)})\n\n"
        f"  {post}none' -d {_quoted(by_user)}\n"
        f"  {post}s3' -d {_quoted(by_user)}\n"
        f"  {post}s5' -d {_quoted(by_history)}\n\n"
        f"  page {url}/   API {url}/docs   metrics {url}/metrics   stop Ctrl-C\n"
        + ("  a browser asks for the key as a password; any user name will do\n" if key else "")
        + (
            f"  the simulator answers for the LVLM: {settings.simulator_url}/ledger shows what it was sent\n"
            if settings.simulator_url
            else ""
        )
    )


def _reachable(host: str) -> str:
    """Returns the host part of a URL that reaches a server which listens on ``host``."""
    # Listening on all interfaces includes loopback. An IPv6 address is in brackets (RFC 3986, section 3.2.2).
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)


def _quoted(text: str) -> str:
    """Quotes a text for a shell, always in single quotes (``shlex.quote`` leaves some texts bare)."""
    return "'" + text.replace("'", "'\\''") + "'"
