"""What lies outside this machine or project and a study may want: the model hub, a browser."""

from __future__ import annotations

import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator

from sweep.doctor.check import Check, ok, warning
from sweep.storage.address import hide_password

HUB = "https://huggingface.co"
HUB_S = 3
BROWSERS = ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser", "chrome")


def outside_checks() -> Iterator[Check]:
    """Looks for the hub and a browser."""
    yield _hub()
    yield _browser()


def _hub() -> Check:
    local = "models and data must then be local folders and files, or in the hub's cache"
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        return warning("model hub", "HF_HUB_OFFLINE is set", local)
    address = os.environ.get("HF_ENDPOINT", HUB)
    shown = hide_password(address)
    if not address.startswith(("http://", "https://")):
        return warning("model hub", f"HF_ENDPOINT={shown}; allowed: an address with http:// or https://", local)
    try:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310
        with urllib.request.urlopen(request, timeout=HUB_S):  # noqa: S310  # nosec B310
            return ok("model hub", f"{shown} answers")
    # Whatever it says, it has answered.
    except urllib.error.HTTPError:
        return ok("model hub", f"{shown} answers")
    except (OSError, ValueError, http.client.HTTPException):
        return warning("model hub", f"{shown} does not answer", local)


def _browser() -> Check:
    named = os.environ.get("BROWSER_PATH")
    if named and not os.access(named, os.X_OK):
        return warning(
            "browser", f"BROWSER_PATH={named} is no program", "`sweep report --png` needs Chrome or Chromium"
        )
    found = named or next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        return warning("browser", "none", "`sweep report --png` needs Chrome or Chromium; BROWSER_PATH may name it")
    return ok("browser", found)
