"""Opens bundles (items, stored histories, captions, backbones) and reads users' histories."""
