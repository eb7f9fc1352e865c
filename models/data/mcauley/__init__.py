"""Parts of the reader of J. McAuley's layouts (``models.data.amazon``)."""
