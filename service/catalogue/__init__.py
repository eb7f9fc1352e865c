"""What a bundle holds: items, stored histories, captions and backbones."""
