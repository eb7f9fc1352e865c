"""Words what the start says: the commands to try, and what an operator should know about an open service."""

from __future__ import annotations

import json
import os

from service.catalogue.bundle import Bundle
from service.settings import Settings
from service.web_addresses import is_loopback, read_host
from service.wiring.lvlm import budget_of


def greeting(url: str, bundle: Bundle, settings: Settings) -> str:
    """Returns what is printed once the service is ready: its address and three commands to try.

    Args:
        url: address at which this machine reaches the service.
        bundle: bundle that is served.
        settings: settings of the deployment.
    """
    catalogue = bundle.catalogue
    user_id = next(iter(catalogue.histories.users), None)
    history = [catalogue.items[row].item_id for row in catalogue.popular[:2]]
    by_history = json.dumps({"history": history, "k": 5})
    by_user = json.dumps({"user_id": user_id, "k": 5}) if user_id else by_history
    # The variable and never its value, which would stay in the log and in the shell's history.
    key = ' -H "Authorization: Bearer $MSR_API_KEY"' if settings.api_key.get_secret_value() else ""
    post = f"curl -s -X POST{key} -H 'content-type: application/json' '{url}/recommend?strategy="
    simulator = os.environ.get("MSR_SIMULATOR_URL")
    return (
        f"\nMSR Serve is ready at {url}  ({catalogue.manifest.dataset}: {len(catalogue.items)} items, "
        f"{catalogue.manifest.users} users, backbones {', '.join(bundle.backbones)})\n\n"
        f"  {post}none' -d {_quoted(by_user)}\n"
        f"  {post}s3' -d {_quoted(by_user)}\n"
        f"  {post}s5' -d {_quoted(by_history)}\n\n"
        f"  page {url}/   API {url}/docs   metrics {url}/metrics   stop Ctrl-C\n"
        + ("  a browser asks for the key as a password; any user name will do\n" if key else "")
        + (
            f"  the simulator answers for the LVLM: {simulator}/ledger shows what it was sent\n"
            if simulator
            else ""
        )
    )


def exposure_warnings(settings: Settings) -> list[str]:
    """Returns a sentence for each way in which strangers, or a mistake, could make the service cost money."""
    warnings = []
    if not settings.api_key.get_secret_value() and not is_loopback(read_host(settings.host) or settings.host):
        warnings.append(
            f"every machine that reaches {settings.host} may ask, write events and forget people: "
            "set MSR_API_KEY, or MSR_HOST=127.0.0.1"
        )
    paid = [
        provider.name
        for provider in settings.providers.values()
        if provider.api_key and not provider.simulated
    ]
    if paid and not settings.replays and not budget_of(settings).limited:
        warnings.append(
            f"calls of {', '.join(paid)} cost money and nothing limits them: "
            "set MSR_BUDGET_USD_PER_DAY or MSR_BUDGET_USD_PER_HOUR"
        )
    return warnings


def _quoted(text: str) -> str:
    """Quotes a text for a shell, always in single quotes (``shlex.quote`` leaves some texts bare)."""
    return "'" + text.replace("'", "'\\''") + "'"
