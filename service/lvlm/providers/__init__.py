"""Providers: one class per vendor's wire format, all behind one small protocol (``base.Provider``)."""
