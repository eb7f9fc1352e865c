"""One class per vendor's wire format behind one small protocol."""
