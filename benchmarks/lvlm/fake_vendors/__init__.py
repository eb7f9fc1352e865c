"""Every behaviour of the fake vendors, which are programs of their own beside the repository."""
