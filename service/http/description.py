"""Describes the API to OpenAPI: FastAPI's description, and the keys where the deployment has set one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fastapi import FastAPI

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "basic": {"type": "http", "scheme": "basic", "description": "any user name; the key is the password"},
}


class DescribedApp(FastAPI):
    """An application whose description says which routes need a key.

    Attributes:
        open_paths: paths that need none; None where no route needs a key.
    """

    open_paths: Collection[str] | None = None

    def openapi(self) -> dict[str, Any]:
        """Returns the description, made once."""
        made = self.openapi_schema is not None
        schema = super().openapi()
        if not made and self.open_paths is not None:
            schema.setdefault("components", {})["securitySchemes"] = SCHEMES
            schema["security"] = [{name: []} for name in SCHEMES]
            for path in self.open_paths & schema["paths"].keys():
                for operation in schema["paths"][path].values():
                    operation["security"] = []
        return schema
